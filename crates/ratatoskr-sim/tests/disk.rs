//! The simulated disk keeps every rule of `ratatoskr_log::Disk`, and behaves like a real one while nothing goes wrong.
#![allow(clippy::unwrap_used)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use ratatoskr_log::{Disk, DiskFile, OpenMode, RealDisk};
use ratatoskr_sim::{Lie, SimDisk, Survival};

/// A disk with one file whose content and name are durable.
fn disk_with(path: &str, content: &[u8]) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new();
    let file = disk.open(Path::new(path), OpenMode::CreateNew).unwrap();
    file.write_all_at(content, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, file)
}

fn read(disk: &SimDisk, path: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(Path::new(path), OpenMode::Read)?;
    let mut bytes = vec![0; file.len()? as usize];
    let length = file.read_at(&mut bytes, 0)?;
    bytes.truncate(length);
    Ok(bytes)
}

#[test]
fn a_rename_without_a_folder_sync_may_be_old_or_new_and_nothing_else() {
    let (disk, _) = disk_with("/old", b"content");
    disk.rename(Path::new("/old"), Path::new("/new")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let after = disk.crash(Survival::Seeded(seed));
        let names = after.list(Path::new("/")).unwrap();
        assert_eq!(names.len(), 1);
        assert_eq!(read(&after, &format!("/{}", names[0])).unwrap(), b"content");
        seen.insert(names[0].clone());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["new", "old"]);
}

#[test]
fn the_power_goes_at_the_operation_that_was_named() {
    let (disk, file) = disk_with("/file", b"one");
    let before = disk.operations();
    disk.cut_power_after(before + 1);
    file.write_all_at(b"two", 0).unwrap();
    assert!(!disk.is_off());
    assert!(file.sync_data().is_err());
    assert!(disk.is_off());
    assert!(file.read_at(&mut [0], 0).is_err(), "a machine without power reads nothing");
    assert!(disk.list(Path::new("/")).is_err());
    assert_eq!(read(&disk.crash(Survival::Nothing), "/file").unwrap(), b"one");
    assert_eq!(read(&disk.crash(Survival::Everything), "/file").unwrap(), b"two");
}

#[test]
fn the_same_seed_crashes_the_same_way() {
    let (disk, file) = disk_with("/file", &[1; 8192]);
    file.write_all_at(&[2; 8192], 0).unwrap();
    for seed in 0..20 {
        let crashed = || read(&disk.crash(Survival::Seeded(seed)), "/file").unwrap();
        assert_eq!(crashed(), crashed());
    }
}

#[test]
fn the_death_of_a_process_loses_nothing_but_its_handles_and_locks() {
    let (disk, file) = disk_with("/file", b"one");
    let held = disk.lock(Path::new("/lock")).unwrap();
    assert_eq!(disk.lock(Path::new("/lock")).err().map(|e| e.kind()), Some(io::ErrorKind::WouldBlock));
    file.write_all_at(b"two", 0).unwrap();
    let after = disk.kill();
    assert_eq!(read(&after, "/file").unwrap(), b"two");
    assert!(after.lock(Path::new("/lock")).is_ok());
    file.write_all_at(b"not", 0).unwrap();
    assert_eq!(read(&after, "/file").unwrap(), b"two", "the dead process cannot reach the new disk");
    assert_eq!(read(&after.crash(Survival::Nothing), "/file").unwrap(), b"one");
    drop(held);
    assert!(disk.lock(Path::new("/lock")).is_ok());
}

#[test]
fn a_failed_sync_drops_what_it_should_have_saved() {
    let (disk, file) = disk_with("/file", b"one");
    disk.fail_sync(2);
    file.sync_data().unwrap();
    file.write_all_at(b"two", 0).unwrap();
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(read(&disk, "/file").unwrap(), b"two");
    assert_eq!(read(&disk.crash(Survival::Everything), "/file").unwrap(), b"one");
}

#[test]
fn a_failed_write_writes_nothing() {
    let (disk, file) = disk_with("/file", b"one");
    disk.fail_write(1);
    assert!(file.write_all_at(b"two", 0).is_err());
    file.write_all_at(b"t", 0).unwrap();
    assert_eq!(read(&disk, "/file").unwrap(), b"tne");
}

#[test]
fn a_full_disk_takes_what_fits_and_writes_over_what_is_there() {
    let (disk, file) = disk_with("/file", &[1; 1024]);
    disk.set_capacity(Some(2048));
    file.write_all_at(&[2; 1024], 0).unwrap();
    let error = file.write_all_at(&[3; 2048], 512).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(read(&disk, "/file").unwrap(), [vec![2; 512], vec![3; 1536]].concat());
    assert_eq!(disk.used_bytes(), 2048);
    disk.remove(Path::new("/file")).unwrap();
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn damage_is_there_at_once_and_stays() {
    let (disk, _) = disk_with("/file", &[0; 600]);
    disk.flip_bit(Path::new("/file"), 599, 7).unwrap();
    assert!(disk.flip_bit(Path::new("/file"), 600, 0).is_err());
    let after = disk.crash(Survival::Nothing);
    assert_eq!(read(&after, "/file").unwrap()[599], 0x80);
    after.truncate(Path::new("/file"), 10).unwrap();
    assert_eq!(read(&after.crash(Survival::Nothing), "/file").unwrap().len(), 10);
    after.fail_reads("/file");
    assert!(read(&after, "/file").is_err());
    after.heal_reads();
    assert!(read(&after, "/file").is_ok());
    after.delete(Path::new("/file")).unwrap();
    assert!(after.crash(Survival::Everything).list(Path::new("/")).unwrap().is_empty());
}

#[test]
fn a_lying_disk_reports_syncs_it_never_did() {
    let (disk, file) = disk_with("/file", b"one");
    disk.lie_about(Lie::FileSync);
    disk.lie_about(Lie::FolderSync);
    file.write_all_at(b"two", 0).unwrap();
    file.sync_data().unwrap();
    disk.remove(Path::new("/file")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(read(&disk.crash(Survival::Nothing), "/file").unwrap(), b"one");
}

/// What is done to a real and a simulated disk alike; numbers choose among a few paths.
#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    CreateDir(u8),
    Rename(u8, u8),
    Remove(u8),
    RemoveDir(u8),
    List(u8),
    Write { path: u8, position: u16, length: u16, byte: u8 },
    SetLen(u8, u16),
    SyncDir(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let path = 0..9u8;
    prop_oneof![
        3 => path.clone().prop_map(Step::Create),
        3 => path.clone().prop_map(Step::CreateDir),
        2 => (path.clone(), path.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => path.clone().prop_map(Step::Remove),
        1 => path.clone().prop_map(Step::RemoveDir),
        2 => path.clone().prop_map(Step::List),
        4 => (path.clone(), 0..2000u16, 0..2000u16, any::<u8>())
            .prop_map(|(path, position, length, byte)| Step::Write { path, position, length, byte }),
        1 => (path.clone(), 0..2000u16).prop_map(|(path, len)| Step::SetLen(path, len)),
        1 => path.prop_map(Step::SyncDir),
    ]
}

fn path(root: &Path, number: u8) -> PathBuf {
    let names = ["a", "b", "c", "a/a", "a/b", "a/c", "b/a", "b/b", "a/b/c"];
    root.join(names[usize::from(number)])
}

/// Does a step, answers what came of it in words that both disks share.
fn play(disk: &dyn Disk, root: &Path, step: &Step) -> Result<String, io::ErrorKind> {
    let at = |number: &u8| path(root, *number);
    let open = |number: &u8| disk.open(&at(number), OpenMode::Write);
    let done = match step {
        Step::Create(number) => disk.open(&at(number), OpenMode::CreateNew).map(|_| String::new()),
        Step::CreateDir(number) => disk.create_dir(&at(number)).map(|()| String::new()),
        Step::Rename(from, to) => disk.rename(&at(from), &at(to)).map(|()| String::new()),
        Step::Remove(number) => disk.remove(&at(number)).map(|()| String::new()),
        Step::RemoveDir(number) => disk.remove_dir(&at(number)).map(|()| String::new()),
        Step::List(number) => disk.list(&at(number)).map(|names| names.join(" ")),
        Step::Write { path, position, length, byte } => open(path).and_then(|file| {
            file.write_all_at(&vec![*byte; usize::from(*length)], u64::from(*position))?;
            let mut bytes = vec![0; 5000];
            let read = file.read_at(&mut bytes, 0)?;
            Ok(format!("{} {read} {:08x}", file.len()?, crc32c::crc32c(&bytes[..read])))
        }),
        Step::SetLen(number, len) => open(number).and_then(|file| {
            file.set_len(u64::from(*len))?;
            Ok(file.len()?.to_string())
        }),
        Step::SyncDir(number) => {
            disk.list(&at(number)).and_then(|_| disk.sync_dir(&at(number))).map(|()| String::new())
        }
    };
    done.map_err(|error| error.kind())
}

/// A rename of folders or across folders is something the simulated disk refuses on purpose.
fn is_in_scope(disk: &SimDisk, root: &Path, step: &Step) -> bool {
    let Step::Rename(from, to) = step else { return true };
    let (from, to) = (path(root, *from), path(root, *to));
    let is_folder = |path: &Path| disk.list(path).is_ok();
    from.parent() == to.parent() && !is_folder(&from) && !is_folder(&to)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn without_faults_it_does_what_a_real_disk_does(steps in proptest::collection::vec(step(), 0..40)) {
        let folder = tempfile::tempdir().unwrap();
        let (real, simulated) = (RealDisk, SimDisk::new());
        simulated.create_dir(folder.path()).unwrap();
        for step in &steps {
            if is_in_scope(&simulated, folder.path(), step) {
                let expected = play(&real, folder.path(), step);
                let found = play(&simulated, folder.path(), step);
                prop_assert_eq!(found, expected, "at {:?}", step);
            }
        }
    }
}
