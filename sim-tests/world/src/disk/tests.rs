use super::*;

fn write(disk: &SimDisk, path: &str, text: &str, sync: bool) {
    let mut file = disk.open(Path::new(path), OpenMode::Truncate).unwrap();
    file.write_all_at(text.as_bytes(), 0).unwrap();
    if sync {
        file.sync().unwrap();
    }
}

#[test]
fn a_crash_keeps_what_was_synced_and_only_a_prefix_of_the_rest() {
    let (mut lost, mut torn) = (0, 0);
    for seed in 0..200 {
        let disk = SimDisk::new(seed, "h");
        disk.create_dir_all(Path::new("/d")).unwrap();
        write(&disk, "/d/synced", "kept", true);
        disk.sync_dir(Path::new("/d")).unwrap();
        let mut file = disk.open(Path::new("/d/synced"), OpenMode::Write).unwrap();
        file.write_all_at(b"-more", 4).unwrap();
        disk.crash();
        let content = String::from_utf8(disk.read(Path::new("/d/synced")).unwrap()).unwrap();
        assert!("kept-more".starts_with(&content) && content.starts_with("kept"), "{content}");
        lost += i32::from(content == "kept");
        torn += i32::from(content.len() > 4 && content.len() < 9);
    }
    assert!(lost > 20 && torn > 20, "lost {lost}, torn {torn} of 200");
}

#[test]
fn a_name_that_was_not_synced_may_be_gone() {
    let mut gone = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed, "h");
        disk.create_dir_all(Path::new("/d")).unwrap();
        write(&disk, "/d/new", "x", true);
        disk.crash();
        gone += i32::from(!disk.exists(Path::new("/d/new")));
    }
    assert!((20..80).contains(&gone), "gone {gone} of 100");
}

#[test]
fn atomic_replacement_is_atomic() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed, "h");
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.write_atomically(Path::new("/d/f"), b"old").unwrap();
        disk.write_atomically(Path::new("/d/f"), b"new").unwrap();
        disk.crash();
        assert_eq!(disk.read(Path::new("/d/f")).unwrap(), b"new");
    }
}

#[test]
fn a_full_disk_says_so() {
    let disk = SimDisk::new(1, "h");
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.set_faults(DiskFaults { capacity_bytes: Some(10), ..DiskFaults::default() });
    let mut file = disk.open(Path::new("/d/f"), OpenMode::Truncate).unwrap();
    file.write_all_at(&[0; 10], 0).unwrap();
    assert_eq!(file.write_all_at(&[0; 1], 10).unwrap_err().kind(), ErrorKind::StorageFull);
}

#[test]
fn the_power_goes_at_each_boundary() {
    for boundaries in 0..3 {
        for before in [true, false] {
            let disk = SimDisk::new(boundaries, "h");
            disk.create_dir_all(Path::new("/d")).unwrap();
            disk.write_atomically(Path::new("/d/f"), b"old").unwrap();
            disk.set_faults(DiskFaults { power_cut: Some(PowerCut { boundaries, before }), ..DiskFaults::default() });
            // A file's sync, a rename and a folder's sync: the power goes at one of them.
            assert!(disk.write_atomically(Path::new("/d/f"), b"new").is_err());
            assert!(disk.power_is_gone() && disk.read(Path::new("/d/f")).is_err());
            disk.power_on();
            let content = disk.read(Path::new("/d/f")).unwrap();
            assert!(content == b"old" || content == b"new");
            if boundaries == 2 && !before {
                assert_eq!(content, b"new");
            }
        }
    }
}

#[test]
fn a_flipped_bit_stays_and_is_told() {
    let disk = SimDisk::new(1, "h");
    assert_eq!(disk.flip_bit(), None);
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.write_atomically(Path::new("/d/f"), b"content").unwrap();
    let damage = disk.flip_bit().unwrap();
    assert_eq!(damage.path, "/d/f");
    disk.crash();
    let content = disk.read(Path::new("/d/f")).unwrap();
    let wrong: u32 = content.iter().zip(b"content").map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!(wrong, 1);
}

#[test]
fn a_misdirected_write_is_somewhere_else() {
    let disk = SimDisk::new(3, "h");
    disk.create_dir_all(Path::new("/d")).unwrap();
    write(&disk, "/d/a", "aaaaaaaa", true);
    disk.misdirect_next_write();
    let mut file = disk.open(Path::new("/d/a"), OpenMode::Write).unwrap();
    file.write_all_at(b"bb", 8).unwrap();
    assert_eq!(disk.damage().len(), 1);
    assert_ne!(disk.read(Path::new("/d/a")).unwrap(), b"aaaaaaaabb");
}

fn append(disk: &SimDisk, path: &str, text: &str) {
    let mut file = disk.open(Path::new(path), OpenMode::Write).unwrap();
    let end = file.len().unwrap();
    file.write_all_at(text.as_bytes(), end).unwrap();
    file.sync().unwrap();
}

#[test]
fn a_bit_is_flipped_only_before_something_that_was_synced_later() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed, "h");
        disk.create_dir_all(Path::new("/d")).unwrap();
        write(&disk, "/d/a", "head", true);
        append(&disk, "/d/a", "first");
        assert!(disk.flip_bit().unwrap().offset < 4);
        append(&disk, "/d/a", "second");
        assert!(disk.flip_bit().unwrap().offset < 9);
    }
}

#[test]
fn an_appended_write_is_lost_only_behind_something_that_was_synced() {
    for goes_on in [false, true] {
        let disk = SimDisk::new(5, "h");
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.write_atomically(Path::new("/d/other"), b"untouched").unwrap();
        disk.write_atomically(Path::new("/d/a"), b"head").unwrap();
        disk.misdirect_next_write();
        let mut file = disk.open(Path::new("/d/a"), OpenMode::Write).unwrap();
        file.write_all_at(b"lost", 4).unwrap();
        file.sync().unwrap();
        if goes_on {
            file.write_all_at(b"more", 8).unwrap();
            file.sync().unwrap();
        }
        disk.process_ended();
        let content = disk.read(Path::new("/d/a")).unwrap();
        assert_eq!(content.get(4..8) != Some(b"lost"), goes_on, "{content:?}");
    }
}

#[test]
fn a_sync_that_failed_may_have_dropped_the_data_for_good() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = SimDisk::new(seed, "h");
        disk.create_dir_all(Path::new("/d")).unwrap();
        write(&disk, "/d/a", "", true);
        disk.sync_dir(Path::new("/d")).unwrap();
        let mut file = disk.open(Path::new("/d/a"), OpenMode::Write).unwrap();
        file.write_all_at(b"x", 0).unwrap();
        disk.set_faults(DiskFaults { error_percent: 100, ..DiskFaults::default() });
        assert!(file.sync().is_err());
        disk.set_faults(DiskFaults::default());
        file.sync().unwrap();
        disk.crash();
        lost += i32::from(disk.read(Path::new("/d/a")).unwrap().is_empty());
    }
    assert!((10..40).contains(&lost), "lost {lost} of 50");
}

#[test]
fn zeros_that_were_written_ahead_vouch_for_nothing() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed, "h");
        disk.create_dir_all(Path::new("/d")).unwrap();
        write(&disk, "/d/a", "head", true);
        let mut file = disk.open(Path::new("/d/a"), OpenMode::Write).unwrap();
        file.write_all_at(b"first", 4).unwrap();
        file.write_all_at(&[0; 100], 9).unwrap();
        file.sync().unwrap();
        assert!(disk.flip_bit().unwrap().offset < 4);
        // Nothing grows, yet something lies behind what was the end.
        file.write_all_at(b"second", 9).unwrap();
        file.sync().unwrap();
        assert!(disk.flip_bit().unwrap().offset < 9);
    }
}

#[test]
fn a_write_that_went_astray_comes_back_unless_something_lies_behind_it() {
    for behind in [false, true] {
        let disk = SimDisk::new(3, "h");
        disk.create_dir_all(Path::new("/d")).unwrap();
        write(&disk, "/d/a", "head", true);
        let mut file = disk.open(Path::new("/d/a"), OpenMode::Write).unwrap();
        disk.misdirect_next_write();
        file.write_all_at(b"lost", 4).unwrap();
        file.write_all_at(&[0; 100], 8).unwrap();
        file.sync().unwrap();
        if behind {
            file.write_all_at(b"next", 8).unwrap();
            file.sync().unwrap();
        }
        disk.process_ended();
        assert_eq!(disk.read(Path::new("/d/a")).unwrap()[4..8] == *b"lost", !behind);
    }
}
