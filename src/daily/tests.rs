//! Log files that turn over, through real folders: what is opened anew, what goes, and what stays.

use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

fn name_of(now: SystemTime, number: u32) -> String {
    Past { day: days::day(now), number, bytes: 0 }.file("registro")
}

#[test]
fn the_plain_name_is_today_and_days_that_are_over_have_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let file = DailyFile::open(dir.path(), "registro", Keep::default()).unwrap();
    let today = SystemTime::now();
    for k in 0..3 {
        file.write_at(format!("day {k}\n").as_bytes(), today + DAY * k).unwrap();
    }
    assert_eq!(read(dir.path(), "registro.log"), "day 2\n");
    assert_eq!(read(dir.path(), &name_of(today, 1)), "day 0\n");
    assert_eq!(read(dir.path(), &name_of(today + DAY, 1)), "day 1\n");
    let mode = fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
}

#[test]
fn a_file_of_a_day_that_is_over_is_turned_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registro.log");
    fs::write(&path, "yesterday\n").unwrap();
    let then = SystemTime::now() - 3 * DAY;
    File::options().append(true).open(&path).unwrap().set_modified(then).unwrap();
    let file = DailyFile::open(dir.path(), "registro", Keep::default()).unwrap();
    file.write(b"today\n").unwrap();
    assert_eq!(read(dir.path(), &name_of(then, 1)), "yesterday\n");
    assert_eq!(read(dir.path(), "registro.log"), "today\n");
}

#[test]
fn a_file_that_was_moved_or_removed_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = DailyFile::open(dir.path(), "registro", Keep::default()).unwrap();
    file.write(b"one\n").unwrap();
    fs::rename(file.path(), dir.path().join("registro.log.1")).unwrap();
    reopen_all();
    file.write(b"two\n").unwrap();
    assert_eq!(
        (read(dir.path(), "registro.log.1"), read(dir.path(), "registro.log")),
        ("one\n".into(), "two\n".into())
    );
    fs::remove_file(file.path()).unwrap();
    std::thread::sleep(limits::LOG_LOOK_EVERY);
    file.look().unwrap();
    file.write(b"three\n").unwrap();
    assert_eq!(read(dir.path(), "registro.log"), "three\n");
}

#[test]
fn half_a_line_stays_on_its_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("registro.log"), "one\nha").unwrap();
    let file = DailyFile::open(dir.path(), "registro", Keep::default()).unwrap();
    file.write(b"two\n").unwrap();
    file.write(b"three\n").unwrap();
    assert_eq!(read(dir.path(), "registro.log"), "one\nha\ntwo\nthree\n");
}

#[test]
fn what_is_no_file_is_refused_and_a_full_one_takes_lines_once_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registro.log");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
    let error = DailyFile::open(dir.path(), "registro", Keep::default()).unwrap_err().to_string();
    assert!(error.contains("registro.log is a FIFO and no file; move it away"), "{error}");
    fs::remove_file(&path).unwrap();
    symlink("/dev/full", &path).unwrap();
    let file = DailyFile::open(dir.path(), "registro", Keep::default()).unwrap();
    for _ in 0..2 {
        let unwritten = file.write(b"one\n").unwrap_err();
        assert_eq!((unwritten.written, unwritten.cause.kind()), (0, io::ErrorKind::StorageFull));
    }
    fs::remove_file(&path).unwrap();
    file.write(b"one\n").unwrap();
    assert_eq!(read(dir.path(), "registro.log"), "one\n");
}

#[test]
fn bytes_are_bounded_within_a_day_and_what_is_let_go_is_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    let keep = Keep { bytes: Some(4000), age: None };
    let file = DailyFile::open_accounted(dir.path(), "registro", keep, "registro-gone.txt").unwrap();
    let before = SystemTime::now() - Duration::from_secs(1);
    for k in 0..300 {
        file.write(format!("{k:099}\n").as_bytes()).unwrap();
        let all: u64 = names(dir.path()).iter().map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).sum();
        assert!(all <= 4200, "{all} bytes in {:?}", names(dir.path()));
    }
    assert!(read(dir.path(), "registro.log").ends_with("299\n"));
    let gone = humantime::parse_rfc3339(read(dir.path(), "registro-gone.txt").trim_end()).unwrap();
    assert!(gone > before && gone <= SystemTime::now() + limits::LOG_LOOK_EVERY, "{gone:?}");
    let kept: Vec<Past> = names(dir.path()).iter().filter_map(|name| Past::parse(name, "registro", 0)).collect();
    assert!(kept.len() >= 2 && kept.iter().all(|one| one.number > 1), "numbers go on: {kept:?}");
}

#[test]
fn days_go_by_age() {
    let dir = tempfile::tempdir().unwrap();
    for day in ["2026-01-01", "2026-02-01", "2026-02-02"] {
        fs::write(dir.path().join(format!("registro.{day}.log")), "x\n").unwrap();
    }
    let keep = Keep { age: Some(30 * DAY), bytes: None };
    DailyFile::open_accounted(dir.path(), "registro", keep, "registro-gone.txt").unwrap();
    let wanted = ["registro-gone.txt", "registro.2026-02-01.log", "registro.2026-02-02.log", "registro.log"];
    assert_eq!(names(dir.path()), wanted);
    assert_eq!(read(dir.path(), "registro-gone.txt"), "2026-01-02T00:00:01.000000000Z\n", "no later than its day");
}

#[test]
fn links_of_versions_before_become_files() {
    let dir = tempfile::tempdir().unwrap();
    let today = name_of(SystemTime::now(), 1);
    fs::write(dir.path().join(&today), "one\n").unwrap();
    symlink(&today, dir.path().join("registro.log")).unwrap();
    let file = DailyFile::open(dir.path(), "registro", Keep::default()).unwrap();
    file.write(b"two\n").unwrap();
    assert!(fs::symlink_metadata(file.path()).unwrap().is_file());
    assert_eq!((read(dir.path(), "registro.log").as_str(), names(dir.path()).len()), ("one\ntwo\n", 1));
}

#[test]
fn a_folder_that_is_a_file_is_named_with_a_remedy() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = DailyFile::open(&file.path().join("logs"), "head", Keep::default()).unwrap_err().to_string();
    assert!(error.contains(file.path().to_str().unwrap()) && error.contains("; name another folder"), "{error}");
}

#[test]
fn a_tail_follows_the_plain_name_over_midnight() {
    let dir = tempfile::tempdir().unwrap();
    let file = DailyFile::open(dir.path(), "registro", Keep::default()).unwrap();
    let mut command = std::process::Command::new("tail");
    command.args(["-n", "+1", "-s", "0.05", "-F"]).arg(file.path()).stdout(std::process::Stdio::piped());
    let mut tail = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut lines = io::BufRead::lines(io::BufReader::new(tail.stdout.take().unwrap()));
    let today = SystemTime::now();
    for k in 0..3 {
        file.write_at(format!("day {k}\n").as_bytes(), today + DAY * k).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("day {k}"));
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn what_cannot_be_accounted_for_stays() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("registro.2026-01-01.log");
    fs::write(&old, "x\n").unwrap();
    fs::write(dir.path().join("registro.2026-03-01.log"), "x\n").unwrap();
    let gone = dir.path().join("registro-gone.txt");
    fs::create_dir(&gone).unwrap();
    let keep = Keep { age: Some(30 * DAY), bytes: None };
    let open = || drop(DailyFile::open_accounted(dir.path(), "registro", keep, "registro-gone.txt").unwrap());
    open();
    assert!(old.exists());
    fs::remove_dir(&gone).unwrap();
    open();
    assert!(!old.exists() && gone.is_file());
}

#[test]
fn one_process_writes_an_accounted_file() {
    let dir = tempfile::tempdir().unwrap();
    let open = || DailyFile::open_accounted(dir.path(), "registro", Keep::default(), "registro-gone.txt");
    let first = open().unwrap();
    first.write(b"one\n").unwrap();
    assert!(open().unwrap_err().to_string().contains("it is in use by another process"));
    fs::rename(first.path(), dir.path().join("registro.log.1")).unwrap();
    reopen_all();
    first.write(b"two\n").unwrap();
    assert!(open().is_err(), "the new one, too");
    drop(first);
    open().unwrap();
}

#[test]
fn a_file_beside_data_goes_where_its_folder_goes_and_another_does_not() {
    for beside in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (here, away) = (dir.path().join("here"), dir.path().join("away"));
        let open = if beside { DailyFile::open_beside } else { DailyFile::open };
        let file = open(&here, "node", Keep::default()).unwrap();
        file.write(b"one\n").unwrap();
        fs::rename(&here, &away).unwrap();
        reopen_all();
        file.write(b"two\n").unwrap();
        let moved = if beside { "one\ntwo\n" } else { "one\n" };
        assert_eq!((read(&away, "node.log").as_str(), here.exists()), (moved, !beside));
        fs::create_dir_all(&here).unwrap();
        reopen_all();
        file.write_at(b"three\n", SystemTime::now() + DAY).unwrap();
        assert_eq!(here.join("node.log").exists(), !beside);
        assert_eq!(read(&away, "node.log").contains("three"), beside, "no day is turned in the other folder");
    }
}
