//! The trigger: edges of a line, from the agent's flag to the export.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it misses by failing"
)]

use std::collections::BTreeMap;

use wattline_protocol::record::{Edge, EdgeOf, Record};
use wattline_tests::{Frames, Outcome, SMALLEST, Sandbox, Table, program};

/// Runs the smallest campaign with an agent that has this trigger.
fn run_with(sandbox: &Sandbox, trigger: &str) -> Outcome {
    let mut command = sandbox.command(program("wattline"));
    command.args(["run", "--on", "simulated", "--out", "run"]).args(SMALLEST);
    command.env("WATTLINE_TRIGGER", trigger);
    sandbox.start(command).finish()
}

fn numbers(table: &Table, column: &str) -> Vec<u64> {
    table.texts(column).iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn each_window_has_a_rise_and_a_fall_that_say_simulated() {
    let sandbox = Sandbox::new();
    let ran = run_with(&sandbox, "simulated");
    assert!(matches!(ran.code, Some(0 | 4)), "{ran:#?}");
    let exported = sandbox.wattline(&["export", "run", "--to", "csv"]).ends_with(0);
    assert!(exported.stdout.contains("triggers.csv"), "{exported:#?}");
    let folder = sandbox.work().join("run/export");
    let edges = Table::read(&folder.join("triggers.csv"));
    assert_eq!(edges.header(), "time_ns,bound_ns,line,of,trial,number,edge,epoch");
    // Idle before, one trial, idle after: two edges each.
    assert_eq!(edges.texts("edge"), ["rise", "fall"].repeat(3));
    assert_eq!(edges.texts("number"), ["0", "0", "1", "1", "2", "2"]);
    assert_eq!(edges.texts("trial"), ["", "", "0", "0", "", ""]);
    assert!(edges.texts("line").iter().all(|line| *line == "simulated"));
    let times = numbers(&edges, "time_ns");
    assert!(times.is_sorted());
    let windows = Table::read(&folder.join("windows.csv"));
    // The edges follow what the runner tells: never before the window's own ends.
    let (t0, t1) = (numbers(&windows, "t0_ns")[0], numbers(&windows, "t1_ns")[0]);
    assert!(times[2] >= t0 && times[3] >= t1, "{times:?} against {t0} to {t1}");
    let page = std::fs::read_to_string(sandbox.work().join("run/report.html")).unwrap();
    assert!(page.contains("simulated line (none was set): 6 edges of windows"));
}

#[test]
fn each_inference_lies_between_its_edges() {
    let sandbox = Sandbox::new();
    let ran = run_with(&sandbox, "simulated:inference");
    assert!(matches!(ran.code, Some(0 | 4)), "{ran:#?}");
    let records = Frames::of_recording(&sandbox.work().join("run/recording.sqlite")).records();
    let mut edges = BTreeMap::new();
    let mut spans = BTreeMap::new();
    for record in &records {
        match record {
            Record::TriggerEdges(of_line) => {
                assert_eq!(of_line.line, "simulated");
                for edge in &of_line.edges {
                    let EdgeOf::Inference { inference, .. } = edge.of else {
                        panic!("of no inference: {edge:?}")
                    };
                    let pair = edges.entry(inference).or_insert([None; 2]);
                    pair[usize::from(edge.edge == Edge::Fall)] = Some(*edge);
                }
            }
            Record::InferenceSpans(of_trial) => {
                for (span, number) in of_trial.spans.iter().zip(of_trial.first..) {
                    spans.insert(number, *span);
                }
            }
            _ => {}
        }
    }
    assert!(spans.len() > 2 && edges.len() == spans.len(), "{} {}", edges.len(), spans.len());
    for (number, span) in spans {
        let [rise, fall] = edges[&number].map(Option::unwrap);
        assert!(rise.before.0 + u64::from(rise.bracket_ns) <= span.start.0, "{number}");
        assert!(fall.before.0 >= span.start.0 + span.length_ns, "{number}");
    }
}

#[test]
fn a_run_without_a_trigger_has_no_table_of_one() {
    let sandbox = Sandbox::new();
    let ran = sandbox.small_run("simulated", "run");
    assert!(matches!(ran.code, Some(0 | 4)), "{ran:#?}");
    sandbox.wattline(&["export", "run", "--to", "csv"]).ends_with(0);
    assert!(!sandbox.work().join("run/export/triggers.csv").exists());
}

#[test]
fn a_line_that_is_not_there_is_refused_by_name_before_the_run() {
    for per in ["", ":inference"] {
        let sandbox = Sandbox::new();
        let refused = run_with(&sandbox, &format!("gpiochip9999:17{per}"));
        refused.fails_with(3, &["gpiochip9999:17", "no GPIO chip", "/dev/gpiochip*"]);
        assert!(!sandbox.work().join("run").exists());
    }
}

#[test]
fn a_trigger_that_makes_no_sense_is_refused_with_what_does() {
    let sandbox = Sandbox::new();
    let wrong = sandbox.agent(&["serve", "--simulated", "--trigger", "gpiochip0"]).ends_with(2);
    assert!(wrong.stderr.contains("`gpiochip0` is no trigger: gpiochipN:LINE"), "{wrong:#?}");
    let real = sandbox.agent(&["serve", "--trigger", "simulated"]);
    real.fails_with(78, &["--trigger simulated", "gpiochip0:17"]);
}
