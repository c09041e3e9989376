//! Tests of the report as a whole: what stands in the page and in the files.

use wattline_protocol::campaign_spec::{Mode, Precision};
use wattline_protocol::record::{BoardExpectation, FailureCause, Mismatch, SkipReason};

use super::figure::Figures;
use super::{example, render, write};
use crate::analysis::model::{Analysis, MeasuredAccuracy, Uncertain};

/// Names that a hostile board could give a rail.
const HOSTILE: &str = "<script>alert('&')</script>\"\u{7}";

fn examples() -> Vec<Analysis> {
    let batches = [1, 2, 4];
    vec![
        example::simulated(),
        example::night(),
        example::empty(),
        example::build(&["enet"], &batches, Mode::Full),
        example::build(&["enet", "vgg16", "mine"], &[8], Mode::Full),
    ]
}

/// Checks that every element is closed in order; returns the names.
fn elements(markup: &str) -> Vec<String> {
    const VOID: [&str; 3] = ["meta", "br", "!DOCTYPE"];
    let (mut open, mut all, mut rest) = (Vec::new(), Vec::new(), markup);
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(|letter| !letter.is_whitespace() && *letter != '/')
            .collect();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed out of order before {rest:.60}");
        } else if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes in {tag}");
            open.push(name.clone());
            all.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    all
}

#[test]
fn every_page_and_figure_is_well_formed() {
    for analysis in examples() {
        elements(&render(&analysis));
        for figure in Figures::of(&analysis).all() {
            elements(&figure.file);
        }
    }
}

#[test]
fn ids_are_unique_and_links_within_the_page_lead_somewhere() {
    for analysis in examples() {
        let page = render(&analysis);
        let mut ids: Vec<&str> =
            page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        for target in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(ids.contains(&target), "{target}");
        }
    }
}

#[test]
fn every_figure_names_a_unit_on_both_axes() {
    const UNITS: [&str; 11] = [
        "(%)", "(ms)", "(W)", "(mJ)", "(MB)", "(s)", "(min)", "(h)", "(images)", " images)",
        "(G-Ops,",
    ];
    for analysis in examples() {
        for figure in Figures::of(&analysis).all() {
            let labels: Vec<&str> = figure
                .file
                .split("<text class=\"l")
                .skip(1)
                .filter_map(|rest| rest.split('>').nth(1))
                .collect();
            assert_eq!(labels.len(), 2, "{}", figure.stem);
            for label in labels {
                assert!(UNITS.iter().any(|unit| label.contains(unit)), "{label}");
            }
        }
    }
}

#[test]
fn a_simulated_run_says_so_beside_every_group_of_numbers() {
    let analysis = example::simulated();
    let page = render(&analysis);
    let between = |start: &str, end: &str| -> Vec<String> {
        page.split(start)
            .skip(1)
            .filter_map(|rest| rest.split(end).next())
            .map(Into::into)
            .collect()
    };
    assert!(between("<title>", "</title>")[0].contains("simulated"));
    assert!(page.contains("Simulated board.") && page.contains("idle 3.2 W; 8.1 W"));
    for caption in between("<caption", "</caption>").iter().chain(&between("<figcaption", "</b>")) {
        assert!(caption.contains("simulated"), "{caption}");
    }
    for figure in Figures::of(&analysis).all() {
        assert!(figure.file.contains("simulated") && figure.title.contains("simulated"));
        let mut lines = figure.csv.lines();
        assert!(lines.next().is_some_and(|head| head.ends_with(",simulated")));
        assert!(lines.all(|line| line.ends_with(",simulated")));
    }
    assert!(page.contains("true gross"));
}

#[test]
fn a_real_run_never_says_simulated() {
    let analysis = example::night();
    assert!(!render(&analysis).to_lowercase().contains("simulated"));
    for figure in Figures::of(&analysis).all() {
        assert!(!figure.file.contains("simulated"));
        assert!(figure.csv.lines().skip(1).all(|line| line.ends_with(",no")));
    }
}

#[test]
fn the_page_loads_nothing() {
    for analysis in examples() {
        let page = render(&analysis).replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        for load in ["http://", "https://", "src=", "<link", "<script", "@import", "url(//"] {
            assert!(!page.contains(load), "{load}");
        }
    }
}

#[test]
fn a_hostile_name_stays_text() {
    let mut analysis = example::simulated();
    analysis.rails[0].name = HOSTILE.into();
    analysis.rails[1].name = format!("{HOSTILE}=,\n");
    analysis.board.model = HOSTILE.into();
    analysis.cells[0].cell.network = HOSTILE.into();
    analysis.corrected_shunts = vec![(HOSTILE.into(), 0.005, 0.006)];
    analysis.skipped = vec![(HOSTILE.into(), SkipReason::NoShunt)];
    let label = Mismatch::OtherLabel { rail: HOSTILE.into(), expected: HOSTILE.into() };
    analysis.expectation.mismatches = vec![label];
    let page = render(&analysis);
    assert!(!page.contains("<script"));
    elements(&page);
    for figure in Figures::of(&analysis).all() {
        assert!(!figure.file.contains("<script") && !figure.file.contains('\u{7}'));
        elements(&figure.file);
    }
}

#[test]
fn what_is_not_as_the_profile_expects_stands_beside_the_verdict() {
    let mut analysis = example::simulated();
    assert!(!render(&analysis).contains("Not as expected"));
    let shunt = Mismatch::OtherShunt { rail: "VDD_IN".into(), expected_ohm: 0.005, used_ohm: 0.01 };
    analysis.expectation = BoardExpectation {
        profile: Some("jetson-orin-nano".into()),
        inside: Vec::new(),
        mismatches: vec![shunt],
    };
    analysis.skipped = vec![("NC".into(), SkipReason::NotConnected)];
    let page = render(&analysis);
    for words in ["jetson-orin-nano", "measured over 0.01 Ω, expected 0.005 Ω", "NC: not connected"]
    {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn a_whole_night_has_a_row_for_every_cell() {
    let analysis = example::night();
    let page = render(&analysis);
    let cells = page.split("Cells in the order").nth(1).unwrap().split("</table>").next().unwrap();
    assert_eq!(cells.matches("<th class=\"n\" scope=\"row\">").count(), 14 * 7);
    assert!(cells.contains("<tr class=\"invalid\">"));
    assert!(page.contains("out of memory"));
    assert!(page.len() < 3_000_000, "{}", page.len());
}

#[test]
fn a_run_without_a_window_says_so_and_draws_no_empty_axis() {
    let page = render(&example::empty());
    assert!(page.contains("No window and no sample"));
    assert!(page.contains("No window was measured."));
    assert!(!page.contains("<svg xmlns"));
    let mut nothing = example::empty();
    nothing.cells.clear();
    nothing.failed.clear();
    nothing.rails.clear();
    elements(&render(&nothing));
}

#[test]
fn a_figure_says_what_it_does_not_draw() {
    let mut analysis = example::build(&["enet", "vgg16"], &[1, 2], Mode::Full);
    analysis.cells[0].mj_per_image_net = Some(Uncertain { value: -0.2, expanded: 0.5 });
    example::fail(&mut analysis, 3, FailureCause::Engine);
    let page = render(&analysis);
    assert!(page.contains("1 of 4 cells have no figure. Not drawn: 1 at or below zero."));
    assert!(page.contains("−0.20"));
}

#[test]
fn cells_of_other_conditions_are_drawn_apart() {
    let mut analysis = example::build(&["enet", "vgg16"], &[1, 2], Mode::Full);
    let mut half = analysis.cells.clone();
    half.iter_mut().for_each(|cell| cell.cell.precision = Precision::F16);
    analysis.cells.extend(half);
    let figures = Figures::of(&analysis);
    assert_eq!(figures.groups.len(), 2);
    let mut stems: Vec<&str> = figures.all().map(|figure| figure.stem.as_str()).collect();
    let count = stems.len();
    stems.sort_unstable();
    stems.dedup();
    assert_eq!(stems.len(), count);
}

fn measured(network: &str, images: &str) -> MeasuredAccuracy {
    MeasuredAccuracy {
        network: network.into(),
        weights_sha256: "ab".repeat(32),
        precision: "f32".into(),
        device: "cpu".into(),
        classes: 1000,
        size: 224,
        images_sha256: images.into(),
        images: 1_000,
        corrupt: 2,
        top1: [61.5, 58.4, 64.5],
        top5: Some([84.0, 81.6, 86.1]),
    }
}

#[test]
fn a_measured_accuracy_is_filled_and_a_published_one_hollow_and_named_so() {
    let mut analysis = example::build(&["alexnet", "resnet18"], &[1, 16], Mode::Full);
    analysis.accuracies = vec![measured("resnet18", "aa")];
    let figures = Figures::of(&analysis);
    let figure = figures.all().find(|figure| figure.stem == "accuracy_operations").unwrap();
    let csv: Vec<&str> = figure.csv.lines().collect();
    assert!(csv[1].starts_with("alexnet,") && csv[1].contains(",56.522,,,79.066,published,"));
    assert!(csv[1].contains("torchvision IMAGENET1K_V1 (alexnet-owt-7be5be79)"));
    assert!(csv[2].contains(",61.5,58.4,64.5,84,measured,1000 images on cpu,69.57,3.63,"));
    let tips: Vec<&str> =
        figure.file.split("<title>").filter_map(|rest| rest.split("</title>").next()).collect();
    assert!(tips.iter().any(
        |tip| tip.contains("alexnet · top-1 56.52 %") && tip.contains("published: torchvision")
    ));
    assert!(tips.iter().any(|tip| tip.contains("measured over 1000 images")));
    // One hollow mark for what is published, one in the key.
    assert_eq!(figure.file.matches(" hollow\"").count(), 2, "{}", figure.file);
    for stem in ["accuracy_time_batch_1", "accuracy_time_batch_16", "accuracy_energy_batch_16"] {
        assert!(figures.all().any(|figure| figure.stem == stem), "{stem}");
    }
    assert!(render(&analysis).contains("Wilson's 95 % interval"));
}

#[test]
fn accuracies_over_two_sets_of_images_are_never_in_one_figure() {
    let mut analysis = example::build(&["alexnet", "resnet18"], &[1], Mode::Full);
    analysis.accuracies = vec![measured("resnet18", "aa"), measured("resnet18", "bb")];
    let figures = Figures::of(&analysis);
    let stems: Vec<&str> = figures
        .all()
        .map(|figure| figure.stem.as_str())
        .filter(|stem| stem.starts_with("accuracy_operations"))
        .collect();
    assert_eq!(stems, ["accuracy_operations_images_1", "accuracy_operations_images_2"]);
}

#[test]
fn the_same_analysis_gives_the_same_bytes() {
    assert_eq!(render(&example::night()), render(&example::night()));
}

#[test]
fn the_page_and_a_table_beside_each_figure_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let analysis = example::simulated();
    let page = write(&analysis, dir.path()).unwrap();
    assert_eq!(std::fs::read_to_string(&page).unwrap(), render(&analysis));
    let mut names: Vec<String> = std::fs::read_dir(dir.path().join("figures"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let svg = names.iter().filter(|name| name.ends_with(".svg")).count();
    assert_eq!((svg * 2, svg), (names.len(), 12), "{names:?}");
    write(&analysis, dir.path()).unwrap();
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = write(&example::simulated(), file.path()).unwrap_err();
    assert!(error.to_string().contains("figures"), "{error}");
}
