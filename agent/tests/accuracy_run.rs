//! `wattline-agent accuracy` from end to end, on a network of three layers.
//!
//! The network answers by the mean colour: red, green and blue pictures have
//! the classes 0, 1 and 2.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::Value;

const NET: &str = r#"
id = "colours"
nodes = [
  { name = "pool", inputs = ["input"], op = "global_avg_pool" },
  { name = "flatten", inputs = ["pool"], op = "flatten" },
  { name = "fc", inputs = ["flatten"], op = { linear = { in_features = 3, out_features = 3, bias = false } } },
]
[input]
channels = 3
size = 16
"#;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        std::fs::write(bench.path("net.toml"), NET).unwrap();
        let unit: Vec<u8> =
            (0..9).flat_map(|i| if i % 4 == 0 { 1_f32 } else { 0.0 }.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![3, 3], &unit).unwrap();
        serialize_to_file([("fc.weight", view)], None, &bench.path("weights.safetensors")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn image(&self, name: &str, rgb: [u8; 3]) {
        let path = self.path("images").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = std::fs::File::create(path).unwrap();
        let mut encoder = png::Encoder::new(file, 20, 30);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(&rgb.repeat(600)).unwrap();
    }

    fn run(&self, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_wattline-agent"))
            .args(["accuracy", "--json", "--batch", "2", "--network"])
            .arg(self.path("net.toml"))
            .arg("--weights")
            .arg(self.path("weights.safetensors"))
            .arg("--images")
            .arg(self.path("images"))
            .arg("--out")
            .arg(self.path("out"))
            .args(more)
            .output()
            .unwrap()
    }

    fn summary(&self) -> Value {
        let output = self.run(&[]);
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, more: &[&str]) -> (i32, String) {
        let output = self.run(more);
        (output.status.code().unwrap(), said(&output))
    }

    fn colours(&self) {
        for (number, rgb) in [[200, 9, 9], [9, 200, 9], [9, 9, 200]].into_iter().enumerate() {
            for copy in 0..3 {
                self.image(&format!("class{number}/{copy}.png"), rgb);
            }
        }
        // One picture in the wrong folder: the one error there is.
        self.image("class2/wrong.png", [200, 9, 9]);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn near(value: &Value, expected: f64) {
    let found = value.as_f64().unwrap();
    assert!((found - expected).abs() < 1e-9, "{found}, expected {expected}");
}

#[test]
fn shares_intervals_and_corrupt_images_are_told() {
    let bench = Bench::new();
    bench.colours();
    std::fs::write(bench.path("images/class0/torn.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    let summary = bench.summary();
    assert_eq!(summary["images"], 10);
    near(&summary["top1"]["percent"], 90.0);
    near(&summary["top5"]["percent"], 100.0);
    // Wilson for 9 of 10: 59.585 to 98.212 (Agresti and Coull 1998).
    assert!((summary["top1"]["low_percent"].as_f64().unwrap() - 59.585).abs() < 5e-3);
    assert_eq!(summary["corrupt"][0]["image"], "class0/torn.png");
    assert!(bench.path("out/accuracy.json").is_file());
}

#[test]
fn a_killed_evaluation_goes_on_where_it_was() {
    let bench = Bench::new();
    bench.colours();
    let whole = bench.summary();
    let journal = bench.path("out/journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let kept: usize = text.lines().take(5).map(|line| line.len() + 1).sum();
    // Four answers, and half a line of the fifth.
    std::fs::write(&journal, &text[..kept + 10]).unwrap();
    assert_eq!(bench.summary(), whole);
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), text);
}

#[test]
fn another_evaluation_in_the_same_folder_is_refused() {
    let bench = Bench::new();
    bench.colours();
    bench.summary();
    let (status, said) = bench.refused(&["--resize", "20"]);
    assert!(status == 2 && said.contains("--out"), "{said}");
}

#[test]
fn folders_without_images_or_classes_are_refused_with_the_mend() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("images")).unwrap();
    let (status, said) = bench.refused(&[]);
    assert!(status == 2 && said.contains("no image in it"), "{said}");
    bench.image("cats/1.png", [1, 2, 3]);
    let (status, said) = bench.refused(&[]);
    assert!(status == 2 && said.contains("1 class folders") && said.contains("--labels"), "{said}");
    let labels = |text: &str| {
        std::fs::write(bench.path("labels.txt"), text).unwrap();
        let path = bench.path("labels.txt");
        bench.refused(&["--labels", Path::to_str(&path).unwrap()])
    };
    assert!(labels("cats 7\n").1.contains("class 7"));
    assert!(labels("cats\n").1.contains("line 1"));
    assert!(labels("dogs 1\n").1.contains("cats: no class"));
    assert_eq!(labels("cats 2\n").0, 0);
}

#[test]
fn a_flat_folder_takes_its_classes_from_a_labels_file() {
    let bench = Bench::new();
    bench.image("a.png", [200, 0, 0]);
    bench.image("b.png", [0, 0, 200]);
    std::fs::write(bench.path("labels.txt"), "a.png 0\nb 1\n").unwrap();
    let output = bench.run(&["--labels", bench.path("labels.txt").to_str().unwrap()]);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    near(&summary["top1"]["percent"], 50.0);
}
