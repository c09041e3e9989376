//! Golden tests of the three tables.

use super::*;
use crate::analysis::analyse;
use crate::recording::synthetic::Synthetic;

/// A run of one window a cell, whose second row failed.
fn tables() -> (Vec<String>, String, String) {
    let night = Synthetic { windows: 1, failed: (1_000_000, 2_000_000), ..Synthetic::default() };
    let recording = night.recording();
    let analysis = analyse(&recording, &[]).unwrap();
    let (mut samples, mut windows, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    write_samples(&recording, &analysis, &mut samples).unwrap();
    write_windows(&analysis, &mut windows).unwrap();
    write_cells(&analysis, &mut cells).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(samples).lines().map(str::to_owned).collect(), text(windows), text(cells))
}

#[test]
fn samples_stand_at_the_centre_and_a_failed_read_has_no_value() {
    let (samples, ..) = tables();
    // 3 W at 5 V over 5 mΩ: 75 steps of 40 µV. The row ends at 100 s; its
    // conversion's centre lies 600 + 420 + 70 µs before.
    let expected = [
        "time_ns,rail,shunt_code,bus_code,volts,amperes,watts,status,epoch",
        "99998910000,VDD_IN,75,625,5.000000,0.600000,3.000000,ok,1",
        "99998910000,VDD_CPU_GPU,37,625,5.000000,0.296000,1.480000,ok,1",
        "99999910000,VDD_IN,,,,,,nack,1",
        "99999910000,VDD_CPU_GPU,,,,,,nack,1",
        "100000910000,VDD_IN,75,625,5.000000,0.600000,3.000000,ok,1",
    ];
    assert_eq!(samples[..6], expected);
}

/// The uncertainty by hand, 8 W at 5 V: R 46.2 mJ, shunt offset 46.2 mJ, gains
/// 11.5 mJ each, bus offset 14.8 mJ, rounding 12.1 mJ, edges 3.3 mJ; twice the
/// root of the squares is 140.1 mJ.
#[test]
fn windows_have_the_columns_of_the_contract() {
    let expected = "\
window,cell,network,batch,t0_ns,t1_ns,images,energy_j,u_energy_j,net_energy_j,u_net_energy_j,\
true_energy_j,verdict,reasons,epoch
1,0,enet,1,103500000000,104500000000,20,8.000000,0.140139,5.000000,0.072555,8.000000,flagged,quick,1
2,1,enet,4,105000000000,106000000000,80,12.000000,0.181258,9.000000,0.120632,12.000000,flagged,quick,1
";
    assert_eq!(tables().1, expected);
}

#[test]
fn cells_have_the_columns_of_the_contract() {
    let expected = "\
cell,network,batch,precision,device,threads,ms_per_image,u_ms_per_image,watts,u_watts,\
mj_per_image_gross,u_mj_per_image_gross,mj_per_image_net,u_mj_per_image_net,images_per_s,\
memory_mb,windows,verdict,reasons,simulated,true_mj_per_image_gross
0,enet,1,f32,cpu,4,50.000000,0.000000,8.000000,0.140139,400.000000,7.006968,250.000000,3.627754,20.000000,50.000000,1,flagged,quick,true,400.000000
1,enet,4,f32,cpu,4,12.500000,0.000000,12.000000,0.181258,150.000000,2.265727,112.500000,1.507897,80.000000,50.000000,1,flagged,quick,true,150.000000
";
    assert_eq!(tables().2, expected);
}

#[test]
fn a_name_with_a_comma_or_a_quote_is_quoted() {
    assert_eq!(text("a,b"), "\"a,b\"");
    assert_eq!(text("5\" panel"), "\"5\"\" panel\"");
    assert_eq!(text("plain"), "plain");
}

#[test]
fn the_three_files_come_into_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Synthetic::default().recording();
    let analysis = analyse(&recording, &[]).unwrap();
    let paths = export(&recording, &analysis, &folder.path().join("export")).unwrap();
    assert!(paths.iter().all(|path| path.metadata().unwrap().len() > 100));
    let taken = folder.path().join("file");
    std::fs::write(&taken, "x").unwrap();
    let error = export(&recording, &analysis, &taken).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}
