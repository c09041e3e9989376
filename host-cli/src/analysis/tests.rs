//! Tests of whole analyses against runs whose energy is known by hand.

use wattline_protocol::campaign_spec::Mode;
use wattline_protocol::record::{FailureCause, RailSource, TrialEnd, TrialOutcome, WarmUp};
use wattline_protocol::units::BoardTime;

use super::model::{Reason, Term, Verdict};
use super::*;
use crate::recording::InEpoch;
use crate::recording::synthetic::Synthetic;

fn analysis(night: &Synthetic) -> Analysis {
    analyse(&night.recording(), &[]).unwrap()
}

#[test]
fn a_quick_run_gives_the_energies_that_were_put_in() {
    let analysis = analysis(&Synthetic::default());
    assert_eq!((analysis.cells.len(), analysis.windows.len()), (2, 6));
    let [one, four] = &analysis.cells[..] else { panic!("two cells") };
    // 8 W for 1 s over 20 images; 12 W over 80.
    assert!((one.mj_per_image_gross.unwrap().value - 400.0).abs() < 0.5);
    assert!((four.mj_per_image_gross.unwrap().value - 150.0).abs() < 0.5);
    assert!((one.mj_per_image_net.unwrap().value - 250.0).abs() < 0.5);
    assert!((one.ms_per_image.unwrap().value - 50.0).abs() < 1e-9);
    assert!((four.watts.unwrap().value - 12.0).abs() < 0.03);
    assert!((four.images_per_s.unwrap() - 80.0).abs() < 1e-9);
    assert_eq!(one.true_mj_per_image_gross, Some(400.0));
    assert_eq!(one.memory_mb, Some(50.0));
    assert_eq!((one.windows, one.threads), (3, 4));
    assert_eq!(one.judgement.reasons, [Reason::Quick]);
    assert!(!analysis.is_incomplete());
}

#[test]
fn the_sensors_terms_are_added_once_and_not_divided_by_the_windows() {
    let few = analysis(&Synthetic { windows: 2, ..Synthetic::default() });
    let many = analysis(&Synthetic { windows: 8, ..Synthetic::default() });
    let relative = |analysis: &Analysis| {
        let gross = analysis.cells[0].mj_per_image_gross.unwrap();
        gross.expanded / gross.value
    };
    // 8 W at 5 V on 5 mΩ: R 0.58 %, offset 0.58 %, gains 0.20 %, bus 0.18 %.
    assert!((relative(&many) - 0.018).abs() < 0.001, "{}", relative(&many));
    assert!((relative(&few) - relative(&many)).abs() < 0.001);
    let dominant = many.cells[1].dominant;
    assert_eq!(dominant, Some(Term::ShuntResistance));
}

#[test]
fn the_interval_holds_the_truth() {
    let analysis = analysis(&Synthetic::default());
    for window in &analysis.windows {
        let truth = window.true_energy.unwrap().0;
        assert!((window.energy.joules.0 - truth).abs() < window.energy.expanded().0);
    }
}

#[test]
fn a_full_campaign_of_short_windows_is_invalid() {
    let analysis = analysis(&Synthetic { mode: Mode::Full, windows: 2, ..Synthetic::default() });
    // One second is 1000 sweeps and 20 inferences: only the campaign's own
    // least length decides, and it is one second here.
    assert_eq!(analysis.cells[0].judgement.verdict, Verdict::Valid, "{:?}", analysis.cells[0]);
    let mut recording =
        Synthetic { mode: Mode::Full, windows: 2, ..Synthetic::default() }.recording();
    recording.starts[0].record.campaign.window_s_min = 10.0;
    let analysis = analyse(&recording, &[]).unwrap();
    assert_eq!(analysis.cells[0].judgement.verdict, Verdict::Invalid);
    assert!(analysis.cells[0].judgement.reasons.contains(&Reason::Short));
    assert!(analysis.cells[0].mj_per_image_gross.is_some());
    assert!(analysis.is_incomplete());
}

#[test]
fn failed_reads_for_200_ms_make_the_window_invalid_and_leave_the_cell_its_others() {
    let second = 1_000_000_000;
    let night = Synthetic::default();
    let from = night.window_start(1) + second / 4;
    let night = Synthetic { failed: (from, from + second / 5), ..night };
    let analysis = analysis(&night);
    let window = &analysis.windows[0];
    assert!((window.missing - 0.2).abs() < 0.005, "{}", window.missing);
    assert_eq!(window.judgement.reasons, [Reason::Quick, Reason::Missing, Reason::Gap]);
    assert_eq!(window.judgement.verdict, Verdict::Invalid);
    let cell = &analysis.cells[0];
    assert_eq!(cell.windows, 2);
    assert_eq!(cell.judgement.reasons, [Reason::Quick, Reason::FewWindows]);
    assert_eq!(cell.judgement.verdict, Verdict::Flagged);
}

#[test]
fn a_few_lost_rows_flag_the_window() {
    let night = Synthetic::default();
    let from = night.window_start(1) + 250_000_000;
    let analysis = analysis(&Synthetic { lost: (from, from + 10_000_000), ..night });
    let judgement = &analysis.windows[0].judgement;
    assert_eq!(judgement.reasons, [Reason::Quick, Reason::SomeMissing]);
}

#[test]
fn a_board_without_a_total_rail_adds_its_parts_and_says_so() {
    let analysis = analysis(&Synthetic { parts_only: true, ..Synthetic::default() });
    let cell = &analysis.cells[0];
    assert!((cell.mj_per_image_gross.unwrap().value - 600.0).abs() < 1.0);
    assert!(cell.judgement.reasons.contains(&Reason::NoTotalRail));
    assert_eq!(cell.true_mj_per_image_gross, None);
}

#[test]
fn rails_of_a_power_chip_flag_a_cell_as_an_estimate() {
    let recording = |source| {
        let synthetic = Synthetic { parts_only: true, ..Synthetic::default() };
        let mut recording = synthetic.recording();
        for start in &mut recording.starts {
            for rail in &mut start.record.rails {
                rail.source = source;
            }
        }
        recording
    };
    let reasons = |source| {
        let analysis = analyse(&recording(source), &[]).unwrap();
        let cell = &analysis.cells[0].judgement;
        assert_eq!(cell.verdict, Verdict::Flagged);
        cell.reasons.contains(&Reason::Estimate)
    };
    assert!(reasons(RailSource::Pmic));
    assert!(!reasons(RailSource::Rapl));
}

#[test]
fn idle_power_that_moved_flags_the_net_energies() {
    let analysis = analysis(&Synthetic { idle_w: (3.0, 4.0), ..Synthetic::default() });
    assert!(analysis.cells[0].judgement.reasons.contains(&Reason::IdleDrift));
    assert_eq!(analysis.baselines.len(), 2);
    let net = analysis.windows[0].net_energy.as_ref().unwrap();
    assert_eq!(net.dominant(), Some(Term::Baseline));
}

#[test]
fn a_run_that_was_cut_is_analysed_as_far_as_it_goes() {
    let mut recording = Synthetic { cut: true, ..Synthetic::default() }.recording();
    recording.windows.truncate(4);
    let analysis = analyse(&recording, &[]).unwrap();
    assert_eq!((analysis.outcome, analysis.windows.len()), (None, 3));
    assert_eq!(analysis.cells[1].judgement.reasons, [Reason::Quick, Reason::FewWindows]);
    assert!(analysis.is_incomplete());
}

#[test]
fn a_recording_without_a_start_says_what_is_missing() {
    let error = analyse(&Recording::default(), &[]).unwrap_err();
    assert!(matches!(error, AnalysisError::NoRunStart), "{error}");
    assert!(error.to_string().contains("no start of a run"));
}

#[test]
fn a_cell_whose_trials_all_failed_is_invalid_and_has_no_figures() {
    let mut recording = Synthetic::default().recording();
    recording.windows.retain(|close| close.record.images != 80);
    for end in &mut recording.trial_ends {
        if end.record.trial % 2 == 1 {
            let outcome = TrialOutcome::Failed(FailureCause::RunnerKilled { signal: 9 });
            end.record.outcome = outcome;
        }
    }
    let analysis = analyse(&recording, &[]).unwrap();
    let cell = &analysis.cells[1];
    assert_eq!(cell.mj_per_image_gross, None);
    assert_eq!(cell.judgement.reasons, [Reason::FewWindows, Reason::TrialFailed]);
    assert_eq!(cell.judgement.verdict, Verdict::Invalid);
    assert_eq!(analysis.failed.len(), 3);
}

#[test]
fn a_trial_that_failed_and_was_repeated_is_not_failed() {
    let mut recording = Synthetic::default().recording();
    let failed = TrialEnd {
        trial: 0,
        at: BoardTime(0),
        outcome: TrialOutcome::Failed(FailureCause::AgentEnded),
        peak_memory_bytes: 0,
        warm_up: WarmUp::default(),
    };
    recording.trial_ends.insert(0, InEpoch { epoch: 0, record: failed });
    assert_eq!(analyse(&recording, &[]).unwrap().failed, []);
}

#[test]
fn a_window_without_any_sample_has_no_number() {
    let mut recording = Synthetic::default().recording();
    recording.lanes.clear();
    let analysis = analyse(&recording, &[]).unwrap();
    assert!(analysis.windows[0].energy.joules.0.is_nan());
    assert!(analysis.windows[0].judgement.reasons.contains(&Reason::NoSamples));
    assert_eq!(analysis.cells[0].mj_per_image_gross, None);
    assert_eq!(analysis.cells[0].judgement.verdict, Verdict::Invalid);
}

#[test]
fn a_corrected_shunt_scales_the_energy_of_its_rail() {
    let recording = Synthetic::default().recording();
    let plain = analyse(&recording, &[]).unwrap();
    let doubled = ShuntCorrection { rail: "VDD_IN".into(), shunt_ohm: 0.01 };
    let halved = analyse(&recording, &[doubled]).unwrap();
    let energy = |analysis: &Analysis| analysis.windows[0].energy.joules.0;
    assert!((energy(&plain) / energy(&halved) - 2.0).abs() < 1e-9);
    assert_eq!(halved.corrected_shunts.len(), 1);
}

#[test]
fn a_speed_that_changes_within_the_window_flags_it() {
    let mut recording = Synthetic::default().recording();
    for (number, span) in recording.spans[0].record.spans.iter_mut().enumerate() {
        span.length_ns = if number < 10 { 48_000_000 } else { 52_000_000 };
        span.length_ns += if number % 2 == 0 { 100_000 } else { 0 };
    }
    let analysis = analyse(&recording, &[]).unwrap();
    assert!(analysis.windows[0].judgement.reasons.contains(&Reason::Unsteady));
}
