//! The firmware's text as a Raspberry Pi 5 gave it, and as none does.

use proptest::prelude::*;

use super::*;

/// As `vcgencmd pmic_read_adc` printed it on a Raspberry Pi 5 Model B Rev 1.0
/// (2 GB) with four busy cores: captured by the authors of Zeus, in its tests
/// of the Raspberry Pi (github.com/ml-energy/zeus).
pub(crate) const CAPTURE: &[u8] = include_bytes!("capture.txt");

const TWELVE: [&str; 12] = [
    "3V7_WL_SW",
    "3V3_SYS",
    "1V8_SYS",
    "DDR_VDD2",
    "DDR_VDDQ",
    "1V1_SYS",
    "0V8_SW",
    "VDD_CORE",
    "3V3_DAC",
    "3V3_ADC",
    "0V8_AON",
    "HDMI",
];

/// A chip whose firmware says what the script holds.
pub(crate) type Script = Arc<Mutex<Result<Vec<u8>, io::ErrorKind>>>;

pub(crate) fn scripted(text: &[u8]) -> (Arc<Pmic>, Script) {
    let script = Arc::new(Mutex::new(Ok(text.to_vec())));
    (Pmic::of(Firmware::Scripted(Arc::clone(&script))), script)
}

fn core(pmic: &Arc<Pmic>, quantity: PmicQuantity) -> PmicConverter {
    PmicConverter { pmic: Arc::clone(pmic), rail: "VDD_CORE".into(), quantity }
}

#[test]
fn twelve_rails_have_volts_and_amperes_and_the_input_has_not() {
    assert_eq!(rails(CAPTURE), TWELVE);
    assert_eq!(micro(CAPTURE, "VDD_CORE", PmicQuantity::Amperes), Some(6_224_210));
    assert_eq!(micro(CAPTURE, "VDD_CORE", PmicQuantity::Volts), Some(861_733));
    assert_eq!(micro(CAPTURE, "3V3_DAC", PmicQuantity::Amperes), Some(61));
    assert_eq!(micro(CAPTURE, "EXT5V", PmicQuantity::Volts), Some(5_090_660));
    assert_eq!(micro(CAPTURE, "EXT5V", PmicQuantity::Amperes), None);
}

#[test]
fn a_line_that_contradicts_itself_is_no_value() {
    for line in [
        "VDD_CORE_A volt(7)=0.75A",
        "VDD_CORE_A current(7)=0.75V",
        "VDD_CORE_A current(7)=A",
        "VDD_CORE_A current(7)=nanA",
        "_A current(7)=1.0A",
        "VDD CORE_A current(7)=1A",
        "VDD_CORE_A current(7)=1.2.3A",
        "BATT_V volt(25)=99999999999999.0V",
        "error=1",
    ] {
        assert_eq!(Line::parse(line.as_bytes()), None, "{line}");
    }
    let negative = Line::parse(b"HDMI_A current(22)=-0.000020A").unwrap();
    assert_eq!(negative.micro, -20);
}

#[test]
fn one_answer_stands_for_all_converters_of_a_moment() {
    let (pmic, script) = scripted(CAPTURE);
    let t0 = BoardTime(1_000_000_000);
    assert_eq!(core(&pmic, PmicQuantity::Amperes).read_at(t0).unwrap(), 6_224_210);
    *script.lock().unwrap() = Ok(b"VDD_CORE_A current(7)=1.0A\nVDD_CORE_V volt(15)=2.0V".to_vec());
    let within = t0 + Nanos::from_millis(19);
    assert_eq!(core(&pmic, PmicQuantity::Volts).read_at(within).unwrap(), 861_733);
    assert_eq!(core(&pmic, PmicQuantity::Volts).read_at(t0 + FRESH).unwrap(), 2_000_000);
}

#[test]
fn a_firmware_that_falls_silent_leaves_no_value_of_before() {
    let (pmic, script) = scripted(CAPTURE);
    let amperes = core(&pmic, PmicQuantity::Amperes);
    let t0 = BoardTime(1_000_000_000);
    assert!(amperes.read_at(t0).is_ok());
    *script.lock().unwrap() = Err(io::ErrorKind::TimedOut);
    let later = t0 + FRESH;
    assert_eq!(amperes.read_at(later).unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(amperes.read_at(t0).is_err(), "nor does it come back for an older moment");
    *script.lock().unwrap() = Ok(b"error=1 error_msg=\"Command not registered\"".to_vec());
    assert_eq!(amperes.read_at(later).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn the_question_is_vcgencmds() {
    let message = question();
    assert_eq!(message[..6], [1_052, 0, 0x0003_0080, 1_024, 0, 0]);
    let text: Vec<u8> = message[6..10].iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert_eq!(text, b"pmic_read_adc\0\0\0");
    assert!(message[10..].iter().all(|&word| word == 0));
}

#[test]
fn the_answer_ends_at_its_zero_and_an_error_is_none() {
    let mut message = question();
    let mut text = [1; TEXT_BYTES];
    assert_eq!(answer(&message, &mut text).unwrap(), 13);
    message[6..262].fill(u32::from_ne_bytes(*b"abcd"));
    assert_eq!(answer(&message, &mut text).unwrap(), TEXT_BYTES);
    message[5] = 1;
    assert_eq!(answer(&message, &mut text).unwrap_err().kind(), io::ErrorKind::Unsupported);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(text: Vec<u8>) {
        for name in rails(&text) {
            prop_assert!(micro(&text, &name, PmicQuantity::Volts).is_some());
        }
    }

    #[test]
    fn any_text_of_the_firmwares_alphabet_is_read_without_panic(
        text in "([A-Z0-9_]{0,4}_[AV] (current|volt)\\([0-9]{0,2}\\)=-?[0-9.]{0,24}[AV]\n){0,6}"
    ) {
        for name in rails(text.as_bytes()) {
            prop_assert!(micro(text.as_bytes(), &name, PmicQuantity::Volts).is_some());
        }
    }

    #[test]
    fn a_number_is_its_millionths(whole in 0_i64..1 << 40, millionths in 0_i64..1_000_000) {
        let text = format!("{whole}.{millionths:06}79");
        prop_assert_eq!(micro_of(&text), Some(whole * 1_000_000 + millionths));
    }
}
