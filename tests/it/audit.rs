//! `acopio audit`, and `acopio verify` over several folders: what was acknowledged is there, or is named.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::common::{Head, Process, Signal, acopio, data_files, eventually, peak_kib, ran};
use acopio::wire::id::{ClientId, RecordId};
use acopio::wire::record::{Fields, encode};
use serde_json::Value;

/// The files of a head with two copies of each of `MESSAGES` messages on three nodes, all ended in order.
struct Cluster(tempfile::TempDir);

const MESSAGES: usize = 400;

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let head = Head::start(dir.path(), &["--replicas", "2"]);
        let nodes: Vec<_> = (1..=3).map(|k| head.node(dir.path(), k, &["--segment-bytes", "4096"])).collect();
        head.line().send_all("medida", MESSAGES);
        stop(head.process);
        nodes.into_iter().for_each(stop);
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Every file of records.
    fn files(&self) -> Vec<PathBuf> {
        (1..=3).flat_map(|k| data_files(&self.path(&format!("data{k}")))).collect()
    }

    /// An id inside two files, neither their first record, which names a file, nor their last, which may be torn; and
    /// these files.
    fn rottable(&self) -> (String, Vec<PathBuf>) {
        let mut found = BTreeMap::<String, Vec<PathBuf>>::new();
        for file in self.files() {
            let text = fs::read_to_string(&file).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            for line in lines.iter().take(lines.len().saturating_sub(1)).skip(1) {
                found.entry(line[..20].to_owned()).or_default().push(file.clone());
            }
        }
        found.into_iter().find(|(_, files)| files.len() == 2).expect("two copies before the end of their files")
    }

    /// Exit code and report.
    fn audit(&self) -> (Option<i32>, Value) {
        audit(self.0.path(), &[])
    }
}

fn stop(mut process: Process) {
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0), "{}", process.all());
}

/// Exit code, standard output and standard error of `acopio` with these arguments.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = acopio();
    command.args(args);
    ran(command)
}

/// Audits the cluster in a folder.
fn audit(dir: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let dir = dir.to_str().unwrap();
    let args = [&["audit", "--format", "json", "--registro", dir, "--data", dir], more].concat();
    let (code, out, err) = run(&args);
    assert_eq!(err, "");
    (code, serde_json::from_str(&out).unwrap())
}

/// Rewrites the line of a record: `None` takes it out.
fn edit(file: &Path, id: &str, change: impl Fn(&str) -> Option<String>) {
    let text = fs::read_to_string(file).unwrap();
    let changed: String = text
        .split_inclusive('\n')
        .filter_map(|line| if line.starts_with(id) { change(line) } else { Some(line.to_owned()) })
        .collect();
    assert_ne!(text, changed, "{id} is in {}", file.display());
    fs::write(file, changed).unwrap();
}

/// A bit of the payload flipped.
fn flipped(line: &str) -> Option<String> {
    Some(line.replace("medida", "medidc"))
}

fn numbers(report: &Value, keys: &[&str]) -> Vec<u64> {
    keys.iter().map(|key| report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report:#}"))).collect()
}

#[test]
fn a_whole_cluster_keeps_its_word() {
    let cluster = Cluster::start();
    let (code, report) = cluster.audit();
    assert_eq!(code, Some(0), "{report:#}");
    let all = MESSAGES as u64;
    assert_eq!(numbers(&report, &["acknowledged", "found", "missing", "fewer"]), [all, all, 0, 0]);
    let none = ["differing", "checksum_errors", "torn_tails", "unacknowledged", "duplicates", "sent_twice"];
    assert_eq!(numbers(&report, &none), [0; 6], "{report:#}");
    assert_eq!(report["registros"]["files"].as_array().unwrap().len(), 1, "the link and its file are one");
    assert_eq!(report["registros"]["nodes"].as_array().unwrap().len(), 3);
    let dir = cluster.0.path().to_str().unwrap();
    let (code, out, err) = run(&["audit", "--registro", &format!("{dir}/head/registro.log"), "--data", dir]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains(&format!("\n  acknowledged     {all:>12}\n")), "{out}");
    assert!(out.ends_with("every acknowledged record is there\n"), "{out}");
    let (code, out, _) = run(&["verify", &format!("{dir}/data1"), &format!("{dir}/data2"), &format!("{dir}/data3")]);
    assert_eq!(code, Some(0), "{out}");
    let together = format!("together: {all} different records; {all} with 2 copies\ncomplete: ");
    assert!(out.contains(&together), "{out}");
    // Of three folders one may be missing, and two may not.
    let (code, out, _) = run(&["verify", &format!("{dir}/data1"), &format!("{dir}/data3")]);
    assert!(code == Some(0) && out.contains("complete: ") && out.contains(": the folders of data2 ("), "{out}");
    let (code, out, _) = run(&["verify", &format!("{dir}/data1")]);
    assert!(code == Some(1) && out.contains("NOT complete: 2 folders or more were not given, "), "{out}");
}

#[test]
fn a_lost_record_is_missing_and_a_lost_copy_is_one_too_few() {
    let cluster = Cluster::start();
    let (id, files) = cluster.rottable();
    edit(&files[0], &id, |_| None);
    let (code, report) = cluster.audit();
    assert_eq!((code, numbers(&report, &["missing", "fewer"])), (Some(0), vec![0, 1]), "{report:#}");
    let fewer = &report["fewer_first"][0];
    assert_eq!((&fewer["id"], fewer["nodes"].as_array().unwrap().len()), (&id.as_str().into(), 2));
    assert_eq!(fewer["dirs"], serde_json::json!([files[1].parent().unwrap()]));
    let dir = cluster.0.path().to_str().unwrap();
    let folders = [1, 2, 3].map(|k| format!("{dir}/data{k}"));
    let (code, out, _) = run(&["verify", &folders[0], &folders[1], &folders[2]]);
    // The folder knows what it had; the other one has it.
    assert!(out.contains("; 1 with 1 copy; ") && out.contains("Lost in ") && code == Some(1), "{out}");
    assert!(out.contains(" are promised and not here") && out.contains("\ncomplete: "), "{out}");

    edit(&files[1], &id, |_| None);
    let (code, report) = cluster.audit();
    assert_eq!((code, numbers(&report, &["missing", "fewer"])), (Some(1), vec![1, 0]), "{report:#}");
    let (code, out, _) = run(&["verify", &folders[0], &folders[1], &folders[2]]);
    assert!(code == Some(1) && out.contains("NOT complete: 1 entries that are promised are in no folder"), "{out}");
    let missing = &report["missing_first"][0];
    assert_eq!(missing["id"], id.as_str());
    let registro = fs::read_to_string(missing["registro"].as_str().unwrap()).unwrap();
    let line = registro.lines().nth(missing["line"].as_u64().unwrap() as usize - 1).unwrap();
    assert!(line.contains(&format!(" {} ", missing["nodes"][0].as_str().unwrap())), "{line}: {missing}");
    let (code, out, _) = run(&["audit", "--registro", dir, "--data", dir]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains(&format!("missing: {id} acknowledged by data")), "{out}");
    assert!(out.ends_with("1 acknowledged records are missing\n"), "{out}");
    let (code, report) = audit(cluster.0.path(), &["--since", "9999999999----------"]);
    assert_eq!((code, numbers(&report, &["acknowledged", "missing"])), (Some(0), vec![0, 0]), "{report:#}");
}

#[test]
fn rot_is_missing_only_when_no_good_copy_is_left() {
    let cluster = Cluster::start();
    let (id, files) = cluster.rottable();
    edit(&files[0], &id, flipped);
    let (code, report) = cluster.audit();
    assert_eq!(
        (code, numbers(&report, &["checksum_errors", "fewer", "missing"])),
        (Some(0), vec![1, 1, 0]),
        "{report:#}"
    );
    assert_eq!(report["damage_first"][0]["file"], files[0].to_str().unwrap());
    edit(&files[1], &id, flipped);
    let (code, report) = cluster.audit();
    assert_eq!(
        (code, numbers(&report, &["checksum_errors", "fewer", "missing"])),
        (Some(1), vec![2, 0, 1]),
        "{report:#}"
    );
}

#[test]
fn strangers_retries_and_copies_that_differ_are_counted() {
    let cluster = Cluster::start();
    let (id, files) = cluster.rottable();
    // Other contents under the same id, with the right checksum, where the first copy was.
    let other = |line: &str| {
        let (client, seq) = (line.split(' ').nth(1).unwrap(), line.split(' ').nth(2).unwrap());
        let seq = acopio::wire::id::number(seq.split(':').next().unwrap().as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let client = ClientId::from_text(client.as_bytes()).unwrap();
        encode(&mut bytes, Fields { id: id.parse().unwrap(), client, seq, place: None, source: None }, b"otra cosa")
            .unwrap();
        Some(String::from_utf8(bytes).unwrap())
    };
    edit(&files[0], &id, other);
    let mut stranger = Vec::new();
    let strange = RecordId { time_ns: 1_795_234_260_000_000_000, incarnation: 1 };
    for n in [0, 1] {
        encode(
            &mut stranger,
            Fields { id: strange.plus(n), client: ClientId(1), seq: 7, place: None, source: None },
            b"de otra parte",
        )
        .unwrap();
    }
    let current = cluster.path("data1/data.txt");
    fs::OpenOptions::new().append(true).open(current).unwrap().write_all(&stranger.repeat(2)).unwrap();
    let (code, report) = cluster.audit();
    let counted = numbers(&report, &["differing", "unacknowledged", "duplicates", "sent_twice", "missing", "fewer"]);
    assert_eq!((code, counted), (Some(0), vec![1, 2, 2, 1, 0, 0]), "{report:#}");
    assert_eq!(report["differing_first"][0]["id"], id.as_str());
    let folders: Vec<String> = (1..=3).map(|k| cluster.path(&format!("data{k}")).display().to_string()).collect();
    let (code, out, _) = run(&["verify", &folders[0], &folders[1], &folders[2]]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("  1 have copies that differ: a fault\n"), "{out}");
}

#[test]
fn an_unfinished_line_of_a_registro_promises_nothing() {
    let cluster = Cluster::start();
    let registro = cluster.path("head/registro.log");
    let text = fs::read_to_string(&registro).unwrap();
    fs::write(&registro, &text[..text.len() - 1]).unwrap();
    let (code, report) = cluster.audit();
    assert_eq!((code, &report["registros"]["torn_lines"]), (Some(0), &1.into()), "{report:#}");
    let counted = numbers(&report, &["acknowledged", "unacknowledged", "missing", "fewer"]);
    assert_eq!((counted[0] + counted[1], &counted[2..]), (MESSAGES as u64, &[0, 0][..]), "{report:#}");
    let dir = cluster.0.path().to_str().unwrap();
    let (_, out, _) = run(&["audit", "--registro", dir, "--data", dir]);
    assert!(out.contains("1 unfinished lines in the registros are passed over"), "{out}");
}

#[test]
fn a_head_that_is_killed_under_load_keeps_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2"]);
    let address = head.at();
    let nodes: Vec<_> = (1..=3).map(|k| head.node(dir.path(), k, &[])).collect();
    let mut client = head.line();
    let mut sending = client.0.get_ref().try_clone().unwrap();
    let load = std::thread::spawn(move || {
        // Until the head is gone.
        for k in 0.. {
            if sending.write_all(format!("carga {k}\n").as_bytes()).is_err() {
                return;
            }
        }
    });
    for _ in 0..2_000 {
        assert!(client.read().ends_with(" , mensaje: recibido"));
    }
    let reading = std::thread::spawn(move || {
        let mut told = 0_u64;
        let mut line = String::new();
        while std::io::BufRead::read_line(&mut client.0, &mut line).is_ok_and(|len| len > 0) {
            told += u64::from(line.ends_with('\n'));
            line.clear();
        }
        told
    });
    head.process.kill();
    load.join().unwrap();
    let told = 2_000 + reading.join().unwrap();
    // The next head writes on in the same registro.
    let head = Head::start_at(dir.path(), &address, &["--replicas", "2"]);
    eventually("the nodes are back", || (head.process.count(" registered from ") == 3).then_some(()));
    head.line().send_all("despues", 100);
    let (code, report) = audit(dir.path(), &[]);
    assert_eq!(code, Some(0), "audited while it runs: {report:#}");
    stop(head.process);
    nodes.into_iter().for_each(stop);
    let (code, report) = audit(dir.path(), &[]);
    let counted = numbers(&report, &["missing", "fewer", "differing", "checksum_errors", "torn_tails"]);
    assert_eq!((code, counted), (Some(0), vec![0; 5]), "{report:#}");
    assert!(report["acknowledged"].as_u64().unwrap() >= told + 100, "{told} were told: {report:#}");
}

#[test]
fn what_cannot_be_audited_is_exit_code_2_and_a_remedy() {
    let cluster = Cluster::start();
    let (registro, data) = (cluster.path("head"), cluster.path("data1"));
    let (registro, data) = (registro.to_str().unwrap(), data.to_str().unwrap());
    let (missing, empty) = (cluster.path("missing"), cluster.path("empty"));
    fs::create_dir(&empty).unwrap();
    let (missing, empty) = (missing.to_str().unwrap(), empty.to_str().unwrap());
    let file = format!("{data}/data.txt");
    let cases: [(&[&str], &str, &str); 6] = [
        (&["--registro", missing, "--data", data], missing, "name what is there"),
        (&["--registro", registro, "--data", missing], missing, "name what is there"),
        (&["--registro", empty, "--data", data], empty, "holds no registro.log"),
        (&["--registro", registro, "--data", empty], empty, "name the data folder of a node"),
        (&["--registro", &file, "--data", data], &file, "is no registro; name a registro.log"),
        (&["--registro", registro, "--data", &file], &file, "name what is there"),
    ];
    for (args, path, remedy) in cases {
        let (code, out, err) = run(&[&["audit"], args].concat());
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(2), "", 1), "{args:?}: {err}");
        assert!(err.starts_with("acopio: ") && err.contains(path) && err.contains(remedy), "{args:?}: {err}");
    }
    let (code, _, err) = run(&["audit", "--registro", registro]);
    assert_eq!(code, Some(2), "{err}");
    let (code, _, err) = run(&["audit", "--registro", registro, "--data", data, "--since", "pronto"]);
    assert_eq!(code, Some(2), "{err}");
}

/// 4 million records and as many promises take no more memory than one run and the buffers of the merges. Slow without
/// optimisation: `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test --test it audit -- --ignored`.
#[test]
#[ignore = "writes 400 MB and takes a minute"]
fn memory_does_not_grow_with_the_records() {
    let dir = tempfile::tempdir().unwrap();
    let records: u64 = std::env::var("AUDIT_RECORDS").map_or(2_000_000, |text| text.parse().unwrap());
    for name in ["head", "data1", "data2"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let open = |name: &str| std::io::BufWriter::new(fs::File::create(dir.path().join(name)).unwrap());
    let mut registro = open("head/registro.2026-11-21.log");
    let mut nodes = [open("data1/data.txt"), open("data2/data.txt")];
    let mut line = Vec::new();
    for n in 0..records {
        let id = RecordId { time_ns: 1_795_234_260_000_000_000 + n * 1000, incarnation: 7 };
        line.clear();
        let fields = Fields { id, client: ClientId(n % 100), seq: n, place: None, source: None };
        encode(&mut line, fields, b"mensaje: numero random: 42").unwrap();
        for (k, node) in (1..).zip(&mut nodes) {
            node.write_all(&line).unwrap();
            writeln!(registro, "2026-11-21T07:34:21.000000Z recibido en dataNode 127.0.0.{k} data{k} {id}").unwrap();
        }
    }
    registro.flush().unwrap();
    nodes.iter_mut().for_each(|node| node.flush().unwrap());
    let mut command = acopio();
    command.args(["audit", "--registro"]).arg(dir.path()).arg("--data").arg(dir.path());
    command.arg("--temp").arg(dir.path());
    let started = std::time::Instant::now();
    let mut audit = Process::start(command);
    let mut peak = 0;
    // A process that has ended has no memory any more.
    while let Some(now) = peak_kib(audit.pid() as u32) {
        peak = peak.max(now);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    println!("{records} records in two copies: {peak} KiB, {:?}", started.elapsed());
    assert_eq!(audit.wait().code(), Some(0));
    assert!(peak < 200 * 1024, "{peak} KiB");
}
