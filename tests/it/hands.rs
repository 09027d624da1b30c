//! What hands do to a data node's folder while it runs: nothing that was acknowledged is hidden without a word, and
//! nothing is acknowledged that may be lost.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Head, Port, Process, Signal, acopio, eventually, ran, sealed_files};

/// A head and one data node on a folder of its own.
struct Cluster {
    dir: tempfile::TempDir,
    head: Head,
    more: &'static [&'static str],
}

impl Cluster {
    fn start(more: &'static [&'static str]) -> (Self, Process) {
        let dir = tempfile::tempdir().unwrap();
        let head = Head::start(dir.path(), &[]);
        let node = head.node(dir.path(), 1, more);
        (Self { dir, head, more }, node)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("data1").join(name)
    }

    fn current(&self) -> PathBuf {
        self.at("data.txt")
    }

    fn start_again(&self) -> Process {
        self.head.node(self.dir.path(), 1, self.more)
    }

    /// Messages that are kept.
    fn keep(&self, count: usize) {
        let mut client = self.head.line();
        for n in 0..count {
            let answer = client.ask(&format!("message {n} {}", "x".repeat(40)));
            assert!(answer.ends_with("recibido"), "{answer}");
        }
    }

    /// A message that is not.
    fn refused(&self) {
        let answer = self.head.line().ask("nobody keeps this");
        assert!(answer.starts_with("error: ") && !answer.contains("recibido"), "{answer}");
    }

    /// Exit code, how many there are, and what is said.
    fn read(&self) -> (Option<i32>, String, String) {
        let mut command = acopio();
        command.args(["read", "--count", "--retry-for", "1s", "--head", &self.head.at()]);
        let (code, out, err) = ran(command);
        (code, out.trim().to_owned(), err)
    }

    fn has(&self, records: usize) {
        let (code, count, said) = self.read();
        assert_eq!((code, count), (Some(0), records.to_string()), "{said}");
    }

    /// A read that lacks something, and names the node and the cause.
    fn lacks(&self, part: &str) {
        let (code, count, said) = self.read();
        assert_eq!(code, Some(1), "{count}: {said}");
        assert!(said.contains("data1 is there and cannot give all that it keeps: ") && said.contains(part), "{said}");
        assert!(!said.contains("start it again, or"), "{said}");
    }

    /// Waits until `status` and `health` say why the node takes nothing.
    fn is_told(&self, part: &str) {
        eventually("status tells why", || {
            let node = &self.head.status()["nodes"][0];
            let told = node["writable"] == false && node["reason"].as_str().unwrap().contains(part);
            told.then_some(())
        });
        let (code, out, _) = self.health();
        assert!(code == Some(1) && out.contains("takes no messages: solo lectura ") && out.contains(part), "{out}");
    }

    fn is_well_again(&self) {
        eventually("it takes messages again", || (self.health().0 == Some(0)).then_some(()));
    }

    fn health(&self) -> (Option<i32>, String, String) {
        let mut command = acopio();
        command.args(["health", "--node", "data1", "--ask", &self.head.at()]);
        ran(command)
    }

    fn verify(&self) -> (Option<i32>, String) {
        let mut command = acopio();
        command.arg("verify").arg(self.dir.path().join("data1"));
        let (code, out, err) = ran(command);
        (code, out + &err)
    }

    fn is_clean(&self) {
        let (code, said) = self.verify();
        assert_eq!(code, Some(0), "{said}");
    }

    /// A start after records were lost that were acknowledged: it says so, and goes on as another node.
    fn starts_as_another(&self) {
        let node = self.start_again();
        let said = node.wait_for("bytes that were synced, and");
        assert!(said.contains("the node starts as ") && said.contains(" in place of "), "{said}");
        self.keep(1);
    }

    /// A start that is refused: what it says.
    fn start_refused(&self) -> String {
        let (code, _, said) = self.head.start_node(self.dir.path(), 1, self.more).finish();
        assert_eq!(code, Some(1), "{said}");
        said
    }
}

fn stop(mut node: Process) {
    node.signal(Signal::TERM);
    assert!(node.wait().success());
}

fn append(path: &Path, text: &str) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn cut(path: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn nothing_is_acknowledged_into_a_file_that_was_moved_until_it_is_back() {
    let (cluster, node) = Cluster::start(&[]);
    let (current, away) = (cluster.current(), cluster.at("data.txt.1"));
    cluster.keep(5);
    // As logrotate does; nobody sends anything, and it is noticed all the same.
    fs::rename(&current, &away).unwrap();
    fs::write(&current, "").unwrap();
    node.wait_for("ERROR another file lies at the path of data.txt");
    cluster.is_told("another file lies at the path of data.txt");
    cluster.refused();
    cluster.has(5);
    fs::remove_file(&current).unwrap();
    cluster.is_told("data.txt is gone");
    fs::rename(&away, &current).unwrap();
    node.wait_for("messages are stored again");
    cluster.is_well_again();
    cluster.keep(2);
    cluster.has(7);
    // The folder itself, and another one at its path, for longer than its log waits before it looks where it lies.
    let (folder, elsewhere) = (cluster.at(""), cluster.dir.path().join("elsewhere"));
    fs::rename(&folder, &elsewhere).unwrap();
    fs::create_dir(&folder).unwrap();
    cluster.refused();
    cluster.is_told("data.txt is gone");
    let log = elsewhere.join("node.log");
    let said = || fs::read_to_string(&log).unwrap().matches("opened anew").count();
    for times in 1..=2 {
        node.signal(Signal::HUP);
        eventually("its log goes with it", || (said() == times).then_some(()));
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is written into the other one");
    fs::remove_dir(&folder).unwrap();
    fs::rename(&elsewhere, &folder).unwrap();
    cluster.is_well_again();
    cluster.keep(1);
    stop(node);
    cluster.is_clean();
    let _node = cluster.start_again();
    cluster.has(8);
}

#[test]
fn an_editor_that_saves_is_no_loss_and_needs_a_start() {
    let (cluster, node) = Cluster::start(&[]);
    cluster.keep(5);
    let copy = cluster.at("copy");
    fs::copy(cluster.current(), &copy).unwrap();
    fs::rename(&copy, cluster.current()).unwrap();
    cluster.refused();
    cluster.is_told("another file lies at the path of data.txt");
    node.kill();
    let node = cluster.start_again();
    cluster.has(5);
    // Records that came while the editor had the file are told of, though the node was killed.
    fs::copy(cluster.current(), &copy).unwrap();
    cluster.keep(3);
    fs::rename(&copy, cluster.current()).unwrap();
    cluster.refused();
    node.kill();
    let (code, said) = cluster.verify();
    assert!(code == Some(1) && said.contains("bytes that were synced, and"), "{said}");
    cluster.starts_as_another();
}

#[test]
fn what_is_cut_off_is_missed_by_readers_and_by_the_next_start() {
    for left in [0, 150] {
        let (cluster, node) = Cluster::start(&[]);
        cluster.keep(5);
        cut(&cluster.current(), left);
        cluster.lacks("data.txt was cut to");
        cluster.refused();
        cluster.is_told("data.txt was cut to");
        cluster.lacks("data.txt was cut to");
        node.kill();
        let (code, said) = cluster.verify();
        // How long the file was is written down once a second; what is promised is known in any case.
        let is_told = said.contains("data.txt had ") || left > 0 && said.contains("data.txt lost its end");
        let another = "so the next start takes another identity";
        assert!(code == Some(1) && is_told && said.contains(another), "{said}");
        let node = cluster.start_again();
        node.wait_for("the node starts as ");
        cluster.keep(1);
        let (code, _, said) = cluster.read();
        assert!(code == Some(1) && said.contains("data1"), "{said}");
    }
}

#[test]
fn a_log_that_is_removed_says_where_it_still_is() {
    let (cluster, node) = Cluster::start(&[]);
    cluster.keep(3);
    fs::remove_file(cluster.current()).unwrap();
    let said = node.wait_for("ERROR data.txt is gone");
    assert!(said.contains(&format!("/proc/{}/fd", node.pid())), "{said}");
    cluster.refused();
    cluster.has(3);
    node.kill();
    assert_eq!(cluster.verify().0, Some(1));
    cluster.starts_as_another();
}

#[test]
fn sealed_files_that_are_moved_or_cut_are_named() {
    let (cluster, node) = Cluster::start(&["--segment-bytes", "64KiB"]);
    let lines: String = (0..1200).map(|n| format!("message {n} {}\n", "x".repeat(60))).collect();
    let file = cluster.dir.path().join("messages");
    fs::write(&file, lines).unwrap();
    let send = || {
        let mut command = acopio();
        command.args(["send", "--head", &cluster.head.at(), "--file"]).arg(&file);
        assert_eq!(ran(command).0, Some(0));
    };
    send();
    cluster.keep(1);
    let sealed = sealed_files(&cluster.at("")).remove(0);
    let name = sealed.file_name().unwrap().to_str().unwrap().to_owned();
    let away = cluster.at("compressed.gz");
    fs::rename(&sealed, &away).unwrap();
    cluster.lacks(&format!("{name} is gone"));
    cluster.is_told(&format!("{name} is gone"));
    cluster.refused();
    fs::rename(&away, &sealed).unwrap();
    node.wait_for("messages are stored again");
    cluster.is_well_again();
    cluster.has(1201);
    let whole = fs::read(&sealed).unwrap();
    cut(&sealed, 30_000);
    cluster.lacks(&format!("{name} has 30000 bytes and had"));
    stop(node);
    let (code, said) = cluster.verify();
    assert!(code == Some(1) && said.contains(&name) && said.contains("its end is lost"), "{said}");
    // A start goes on without it, and hides nothing.
    for _ in 0..2 {
        let node = cluster.start_again();
        cluster.lacks("damaged");
        cluster.keep(1);
        stop(node);
        let (code, said) = cluster.verify();
        assert!(code == Some(1) && said.contains("are promised and not here"), "{said}");
    }
    fs::write(&sealed, whole).unwrap();
    let _node = cluster.start_again();
    cluster.has(1203);
    cluster.is_clean();
}

/// What a disk does to a file behind the back of a node that is stopped; whatever its index says of it.
#[test]
fn rot_at_either_end_of_a_file_is_named_by_reads_after_a_start() {
    type Change = fn(&mut [u8]);
    let changes: [(&str, Change); 3] = [
        ("the first line", |bytes| bytes[50] ^= 1),
        ("the last line", |bytes| *bytes.iter_mut().nth_back(3).unwrap() ^= 1),
        ("all of it", |bytes| bytes.fill(b'x')),
    ];
    for (what, change) in changes {
        for sealed in [false, true] {
            if !sealed && what != "the first line" {
                // A start is refused: the end is lost.
                continue;
            }
            let (cluster, node) = Cluster::start(&["--segment-bytes", "4KiB"]);
            cluster.keep(if sealed { 120 } else { 5 });
            stop(node);
            let file = if sealed { sealed_files(&cluster.at("")).remove(0) } else { cluster.current() };
            let mut bytes = fs::read(&file).unwrap();
            change(&mut bytes);
            fs::write(&file, bytes).unwrap();
            if sealed {
                fs::remove_file(file.with_extension("index")).unwrap();
            }
            let _node = cluster.start_again();
            let (code, count, said) = cluster.read();
            let named = said.contains("data1 is there and cannot give all that it keeps: lines of it are damaged");
            assert!(code == Some(1) && named, "{what}, sealed {sealed}: {code:?} {count} {said}");
        }
    }
}

#[test]
fn what_somebody_else_writes_hides_nothing_and_may_be_removed_again() {
    for (text, kill) in [("# a remark\n", true), ("\n", false), ("no newline", true), ("uno\ndos\n\ntres", false)] {
        let (cluster, node) = Cluster::start(&[]);
        cluster.keep(5);
        append(&cluster.current(), text);
        cluster.keep(3);
        // A half line spoils the record behind it, which is written once more.
        node.wait_for("WARN somebody else wrote ");
        cluster.has(8);
        cluster.is_clean();
        // Once more, at the end, and nobody sends anything.
        append(&cluster.current(), text);
        cluster.has(8);
        if kill {
            node.kill()
        } else {
            stop(node)
        }
        let node = cluster.start_again();
        cluster.keep(1);
        cluster.has(9);
        stop(node);
        let lines = fs::read_to_string(cluster.current()).unwrap();
        let good: Vec<&str> = lines.split_inclusive('\n').filter(|line| line.starts_with('1')).collect();
        assert_eq!(good.len(), 9);
        fs::write(cluster.current(), good.concat()).unwrap();
        // The file is shorter than it was, and has all of its records.
        cluster.is_clean();
        let node = cluster.start_again();
        assert_eq!(node.count("the node starts as"), 0, "{}", node.all());
        cluster.keep(1);
        cluster.has(10);
        stop(node);
        // A record that goes with it is missed.
        fs::write(cluster.current(), good[..8].concat()).unwrap();
        cluster.starts_as_another();
        assert_eq!(cluster.read().0, Some(1));
    }
}

#[test]
fn a_remark_is_told_while_nobody_sends() {
    let (cluster, node) = Cluster::start(&[]);
    cluster.keep(1);
    append(&cluster.current(), "# a remark\n");
    node.wait_for("WARN somebody else wrote 11 bytes into data.txt, at offset");
    cluster.has(1);
    assert_eq!(cluster.health().0, Some(0));
}

#[test]
fn a_lock_file_that_is_removed_lets_no_second_process_in() {
    let (cluster, _node) = Cluster::start(&[]);
    cluster.keep(1);
    fs::remove_file(cluster.at("lock")).unwrap();
    for _ in 0..2 {
        assert!(cluster.start_refused().contains("is in use by another node"));
    }
    let link = cluster.dir.path().join("data2");
    std::os::unix::fs::symlink(cluster.at(""), &link).unwrap();
    let (code, _, said) = cluster.head.start_node(cluster.dir.path(), 2, &[]).finish();
    assert!(code == Some(1) && said.contains("is in use by another node"), "{said}");
    fs::remove_file(cluster.head.logs.join("head.lock")).unwrap();
    let mut command = acopio();
    command.args(["head", "--listen", "127.0.0.1:0", "--logs"]).arg(&cluster.head.logs);
    let (code, _, said) = Process::start(command).finish();
    assert!(code == Some(1) && said.contains("is in use by another process"), "{said}");
    let (code, said) = cluster.verify();
    assert!(code == Some(0) && said.contains("a node is writing here"), "{said}");
    cluster.keep(1);
}

/// How a process ends that is not to go on: exit code, and what it said.
fn ends(command: Command) -> (Option<i32>, String) {
    let (code, _, said) = Process::start(command).finish();
    (code, said)
}

#[test]
fn nobody_gets_into_a_folder_that_a_head_and_a_data_node_share() {
    let dir = tempfile::tempdir().unwrap();
    let shared = dir.path().join("head");
    let solo = Head::start(dir.path(), &["--solo", "--dir", shared.to_str().unwrap()]);
    assert_eq!(solo.line().ask("hola"), "hola");
    let node = |lock: &str| {
        fs::remove_file(shared.join(lock)).unwrap();
        let mut command = acopio();
        command.args(["data", "--head", &solo.at(), "--name", "second", "--dir"]).arg(&shared);
        ends(command)
    };
    for _ in 0..2 {
        let (code, said) = node("lock");
        assert!(code == Some(1) && said.contains("is in use by another node"), "{said}");
    }
    let head = || {
        let mut command = acopio();
        command.args(["head", "--listen", "127.0.0.1:0", "--logs"]).arg(&shared);
        ends(command)
    };
    for _ in 0..2 {
        fs::remove_file(shared.join("head.lock")).unwrap();
        let (code, said) = head();
        assert!(code == Some(1) && said.contains("is in use by another process"), "{said}");
    }
    assert_eq!(solo.line().ask("adios"), "adios");
}

#[test]
fn a_head_goes_on_knowing_its_data_nodes_whatever_becomes_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let (node, _other) = (head.node(dir.path(), 1, &[]), head.node(dir.path(), 2, &[]));
    let mut client = head.line();
    (0..40).for_each(|k| assert!(client.ask(&format!("mensaje {k}")).ends_with("recibido")));
    node.kill();
    let path = head.logs.join("head.state");
    let knows = || {
        fs::read_to_string(&path)
            .is_ok_and(|text| text.contains(" data1 ") && text.contains(" data2 ") && !text.contains("nonsense"))
    };
    eventually("it is written down", || knows().then_some(()));
    let changes: [fn(&Path); 4] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::rename(path, path.with_extension("1")).unwrap(),
        |path| cut(path, 0),
        |path| append(path, "nonsense\n"),
    ];
    for change in changes {
        change(&path);
        eventually("it is written anew", || knows().then_some(()));
    }
    let (address, text) = (head.at(), fs::read_to_string(&path).unwrap());
    head.process.kill();
    let again = Head::start_at(dir.path(), &address, &[]);
    eventually("data2 is back", || (again.process.count("dataNode data2 registered") == 1).then_some(()));
    let mut read = acopio();
    read.args(["read", "--count", "--retry-for", "1s", "--head", &address]);
    let (code, _, said) = ran(read);
    assert!(code == Some(1) && said.contains("data1"), "{code:?} {said}");
    // What the file does not say any more is heard from the dataNodes again.
    drop(again);
    fs::remove_file(&path).unwrap();
    let third = Head::start_at(dir.path(), &address, &[]);
    eventually("data2 is back", || (third.process.count("dataNode data2 registered") == 1).then_some(()));
    eventually("it knows of data1", || {
        let away = &third.status()["members_away"];
        away.as_array().unwrap().iter().any(|member| member["name"] == "data1").then_some(())
    });
    assert_ne!(text, "");
}

#[test]
fn a_drained_folder_takes_nothing_until_it_gets_a_new_identity() {
    let (cluster, mut node) = Cluster::start(&[]);
    let _other = cluster.head.node(cluster.dir.path(), 2, &[]);
    cluster.keep(20);
    let mut command = acopio();
    command.args(["drain", "data1", "--head", &cluster.head.at()]);
    assert_eq!(ran(command).0, Some(0));
    cluster.head.process.wait_for("dataNode data1 is drained, as 127.0.0.1:");
    assert!(node.wait().success());
    let said = cluster.start_refused();
    assert!(said.contains("was drained") && said.contains("--new-id"), "{said}");
    let _node = cluster.head.node(cluster.dir.path(), 1, &["--new-id"]);
    cluster.keep(5);
    cluster.has(25);
}

#[test]
fn compose_starts_no_drained_node_again() {
    let compose = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/compose.yml")).unwrap();
    let data = compose.split("x-data: &data").nth(1).unwrap().split("services:").next().unwrap();
    assert!(data.contains("restart: on-failure"), "{data}");
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_fifo_in_place_of_a_file_hangs_no_start_and_is_named() {
    let (cluster, node) = Cluster::start(&["--segment-bytes", "64KiB"]);
    let lines: String = (0..800).map(|n| format!("message {n} {}\n", "x".repeat(60))).collect();
    assert_eq!(cluster.head.nc(format!("peticion\n{lines}").as_bytes()).lines().count(), 801);
    cluster.keep(1);
    stop(node);
    let sealed = sealed_files(&cluster.at("")).remove(0).file_name().unwrap().to_str().unwrap().to_owned();
    let names = ["data.txt", "node.state", "lock", "segments.txt"];
    let names = names.into_iter().map(str::to_owned).chain([sealed.clone(), "node.log".to_owned()]);
    for name in names {
        let (path, kept) = (cluster.at(&name), cluster.dir.path().join("kept"));
        let there = fs::rename(&path, &kept).is_ok();
        fifo(&path);
        let said = cluster.start_refused();
        assert!(said.contains(&name) && said.contains("is a FIFO and no file"), "{name}: {said}");
        fs::remove_file(&path).unwrap();
        if there {
            fs::rename(&kept, &path).unwrap();
        }
    }
    // One that can be made again is.
    let index = cluster.at(&sealed.replace(".txt", ".index"));
    fs::remove_file(&index).unwrap();
    fifo(&index);
    let node = cluster.start_again();
    cluster.has(801);
    cluster.keep(1);
    stop(node);
    cluster.is_clean();
}

#[test]
fn a_fifo_in_place_of_a_file_of_a_head_hangs_no_start_and_is_named() {
    for (name, is_refused) in [
        ("registro.log".to_owned(), true),
        ("head.log".to_owned(), true),
        ("head.lock".to_owned(), true),
        ("head.state".to_owned(), false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("head");
        fs::create_dir(&logs).unwrap();
        fifo(&logs.join(&name));
        let mut command = acopio();
        command.args(["head", "--listen", "127.0.0.1:0", "--logs"]).arg(&logs);
        let head = Process::start(command);
        if is_refused {
            let (code, _, said) = head.finish();
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains(&name) && said.contains("is a FIFO and no file"), "{said}");
        } else {
            let said = head.wait_for(&format!("{name} cannot be read"));
            assert!(said.contains("is a FIFO and no file"), "{said}");
            head.wait_for("listening on ");
        }
    }
}

/// Every file and folder below this one that others may read or that the group may write.
fn open_to_others(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.permissions().mode() & 0o027 != 0 && !metadata.is_symlink() {
            found.push(format!("{:o} {}", metadata.permissions().mode(), entry.path().display()));
        }
        if metadata.is_dir() {
            open_to_others(&entry.path(), found);
        }
    }
}

#[test]
fn data_and_logs_are_not_for_everybody() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("run");
    let port = Port::reserve();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!(
        "umask 000; exec {} up --dir {} --port {} --nodes 2 --replicas 2 --every 100ms --for 2s",
        env!("CARGO_BIN_EXE_acopio"),
        dir.display(),
        port.number()
    ));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found = Vec::new();
    open_to_others(outer.path(), &mut found);
    assert_eq!(found, [""; 0]);
    assert!(dir.join("data1/data.txt").exists() && dir.join("head").exists());
    for secret in ["head/cluster.key", "data1/node.key"] {
        assert_eq!(dir.join(secret).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
    }
    assert!(!String::from_utf8_lossy(&output.stderr).contains("is open to every user"), "what it made is not");
    // A folder that was there keeps its mode, and so does a file; whoever starts on it is told.
    let made = outer.path().join("made");
    fs::DirBuilder::new().mode(0o755).create(&made).unwrap();
    fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
    let head = Head::start(outer.path(), &[]);
    let mut command = acopio();
    command.args(["data", "--head", &head.at(), "--dir"]).arg(&made);
    let node = Process::start(command);
    node.wait_for("registered as");
    assert_eq!(node.count("made is open to every user of this machine (mode 755); chmod o-rwx"), 1, "{}", node.all());
    let logs = outer.path().join("logs");
    fs::create_dir(&logs).unwrap();
    fs::set_permissions(&logs, fs::Permissions::from_mode(0o757)).unwrap();
    let mut command = acopio();
    command.args(["head", "--listen", "127.0.0.1:0", "--logs"]).arg(&logs);
    let other = Process::start(command);
    other.wait_for("logs is open to every user of this machine (mode 757); chmod o-rwx");
    assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(made.join("data.txt").metadata().unwrap().permissions().mode() & 0o137, 0);
}
