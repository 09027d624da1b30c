//! `acopio zk` as shells see it: the commands beside kazoo and beside each other, and what bad input gets.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::zookeeper::{Room, kazoo, zk};
use crate::common::{Process, Signal, eventually, ran};

fn sh(script: &str) -> [&str; 4] {
    ["--", "sh", "-c", script]
}

/// A command of this room that goes on.
fn start(room: &Room, args: &[&str]) -> Process {
    Process::start(room.zk(args))
}

/// The same with its standard output in a file, for what is to be seen while it runs.
fn start_into(room: &Room, args: &[&str], file: &Path) -> Process {
    let mut command = Command::new("sh");
    let inner = room.zk(args);
    command.args(["-c", "exec \"$@\" > \"$0\""]).arg(file).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Process::start(command)
}

fn holds(file: &Path, part: &str) {
    let read = || std::fs::read_to_string(file).unwrap_or_default();
    eventually(&format!("{part:?} in {}", file.display()), || read().contains(part).then_some(()));
}

#[test]
fn a_lock_runs_one_command_at_a_time_and_hands_on_its_fence_and_exit_code() {
    let room = Room::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log");
    let script =
        format!("echo in $ACOPIO_FENCE >> {0}; while [ ! -e {0}.go ]; do sleep 0.02; done; exit 7", file.display());
    let first = start(&room, &[&["lock", "/LOCKS", "--id", "one"], &sh(&script)[..]].concat());
    holds(&file, "in ");
    let then = format!("echo in $ACOPIO_FENCE >> {}; kill -TERM $$", file.display());
    let second = start(&room, &[&["lock", "/LOCKS", "--id", "two"], &sh(&then)[..]].concat());
    let waits = second.wait_for(" waits for ");
    assert!(waits.ends_with(" of one; 1 before it"), "{waits}");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1, "two are in");
    std::fs::write(dir.path().join("log.go"), "").unwrap();
    assert_eq!(first.finish().0, Some(7));
    assert_eq!(second.finish().0, Some(128 + 15));
    let fences: Vec<i64> = std::fs::read_to_string(&file).unwrap().lines().map(|l| l[3..].parse().unwrap()).collect();
    assert!(fences.len() == 2 && fences[0] < fences[1], "{fences:?}");
}

#[test]
fn a_lock_of_the_seeds_layout_takes_turns_with_the_seeds_program() {
    let room = Room::new();
    // The exercise of the seed, written anew.
    let theirs = kazoo(
        &room.at(),
        "zk.ensure_path('/LOCKS')\n\
         mine = zk.create('/LOCKS/L-', ephemeral=True, sequence=True).split('/')[-1]\n\
         while min(zk.get_children('/LOCKS')) != mine: time.sleep(0.02)\n\
         say('in')\n\
         while not zk.exists('/go'): time.sleep(0.02)\n\
         zk.delete('/LOCKS/' + mine)\n",
    );
    theirs.wait_for("in");
    let ours = start(&room, &["lock", "/LOCKS", "--layout", "L-", "--", "echo", "dentro"]);
    ours.wait_for("L-0000000001 waits for L-0000000000; 1 before it");
    room.run(&["create", "/go"]);
    let (code, out, said) = ours.finish();
    assert_eq!((code, out.as_str()), (Some(0), "dentro\n"), "{said}");
}

#[test]
fn a_holder_that_was_paused_for_too_long_ends_its_command() {
    let room = Room::new();
    let first = start(&room, &[&["lock", "/LOCKS", "--session-timeout", "2s"], &sh("exec sleep 600")[..]].concat());
    first.wait_for("holds the lock");
    first.signal(Signal::STOP);
    // Once the session is given up, the next one holds.
    let (code, out, said) = ran(room.zk(&["lock", "/LOCKS", "--", "echo", "mine"]));
    assert_eq!((code, out.as_str()), (Some(0), "mine\n"), "{said}");
    first.signal(Signal::CONT);
    first.wait_for("the lock /LOCKS is lost: the command is ended");
    assert_eq!(first.finish().0, Some(1));
}

#[test]
fn who_is_stopped_while_it_waits_leaves_nothing_behind() {
    let room = Room::new();
    let first = start(&room, &[&["lock", "/LOCKS"], &sh("exec sleep 600")[..]].concat());
    first.wait_for("holds the lock");
    let second = start(&room, &["lock", "/LOCKS", "--", "true"]);
    second.wait_for("waits for");
    second.signal(Signal::INT);
    assert_eq!(second.finish().0, Some(130));
    assert_eq!(room.run(&["ls", "/LOCKS"]).lines().count(), 1);
    first.signal(Signal::TERM);
    assert_eq!(first.finish().0, Some(143));
    assert_eq!(room.run(&["ls", "/LOCKS"]), "");
}

#[test]
fn a_second_signal_kills_the_command_before_another_may_hold_the_lock() {
    let room = Room::new();
    let dir = tempfile::tempdir().unwrap();
    for recipe in [&["lock", "/recipe"][..], &["elect", "/recipe"]] {
        let file = dir.path().join(recipe[0]);
        let script = format!("trap '' TERM INT; echo $$. > {}; while :; do sleep 0.05; done", file.display());
        let mut stubborn = start(&room, &[recipe, &sh(&script)[..]].concat());
        holds(&file, ".");
        let pid = std::fs::read_to_string(&file).unwrap().trim().trim_end_matches('.').to_owned();
        stubborn.signal(Signal::INT);
        stubborn.wait_for("stopping");
        assert_eq!(stubborn.interrupt_again().code(), Some(130), "{}", stubborn.all());
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "it runs on: {state}");
        assert_eq!(room.run(&["ls", "/recipe"]), "", "it is given back at once");
    }
}

#[test]
fn signals_that_come_together_are_one() {
    let room = Room::new();
    let script = "trap 'sleep 0.3; exit 9' TERM; echo ready >&2; while :; do sleep 0.05; done";
    let mut holder = start(&room, &[&["lock", "/LOCKS"], &sh(script)[..]].concat());
    holder.wait_for("ready");
    // As `timeout` sends them: to the process, and to its group.
    holder.signal(Signal::TERM);
    holder.wait_for("stopping");
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait().code(), Some(9), "{}", holder.all());
}

#[test]
fn the_next_candidate_leads_at_once_when_the_leader_ends_and_after_the_session_when_it_is_killed() {
    let room = Room::new();
    let candidate = |id: &str| {
        let script = format!("echo {id} leads in $ACOPIO_FENCE >&2; exec sleep 600");
        start(&room, &[&["elect", "/election", "--id", id, "--session-timeout", "2s"], &sh(&script)[..]].concat())
    };
    let a = candidate("a");
    a.wait_for("a leads in");
    let b = candidate("b");
    b.wait_for(" of a; 1 before it");
    let c = candidate("c");
    c.wait_for(" of b; 2 before it");
    a.signal(Signal::TERM);
    b.wait_for("b leads in");
    assert_eq!(a.finish().0, Some(0));
    b.kill();
    c.wait_for("c leads in");
    c.signal(Signal::TERM);
    assert_eq!(c.finish().0, Some(0));
    let (code, out, said) = ran(room.zk(&["elect", "/election", "--once", "--", "sh", "-c", "echo once; exit 3"]));
    assert_eq!((code, out.as_str()), (Some(3), "once\n"), "{said}");
}

#[test]
fn watches_print_the_words_of_the_exercise_and_outlive_the_session() {
    let room = Room::new();
    let dir = tempfile::tempdir().unwrap();
    let (data, children) = (dir.path().join("data"), dir.path().join("children"));
    room.run(&["create", "/PAI"]);
    let first = start_into(&room, &["watch", "data", "/NORMAL", "--session-timeout", "2s"], &data);
    let second = start_into(&room, &["watch", "children", "/PAI"], &children);
    holds(&data, "Stat: None\nData: None\n\n");
    holds(&children, "Children are now: []\n");
    room.run(&["create", "/NORMAL", "olá"]);
    holds(&data, "Data: b'ol\\xc3\\xa1'\n\n");
    holds(&data, "Stat: ZnodeStat(czxid=");
    // Longer than its session lives.
    first.signal(Signal::STOP);
    room.run(&["create", "/PAI/FILHO1"]);
    holds(&children, "Children are now: ['FILHO1']\n");
    let (code, _, said) = ran(room.zk(&["lock", "/held", "--", "sleep", "2.6"]));
    assert_eq!(code, Some(0), "{said}");
    room.run(&["set", "/NORMAL", "changed"]);
    first.signal(Signal::CONT);
    first.wait_for("takes its place");
    holds(&data, "Data: b'changed'\n\n");
    assert_eq!(std::fs::read_to_string(&data).unwrap().matches("olá").count(), 0);
    first.signal(Signal::TERM);
    assert_eq!(first.finish().0, Some(0));
    room.run(&["rm", "-r", "/PAI"]);
    let (code, _, said) = second.finish();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("/PAI was deleted: the watch of its children ends"), "{said}");
    let (code, _, said) = ran(room.zk(&["watch", "children", "/PAI"]));
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no /PAI whose children to watch; make it with acopio zk create /PAI"), "{said}");
}

#[test]
fn barriers_and_counters_work_from_a_shell() {
    let room = Room::new();
    assert_eq!(room.run(&["barrier", "wait", "/barrier"]), "");
    room.run(&["barrier", "create", "/barrier"]);
    let waits = start(&room, &["barrier", "wait", "/barrier"]);
    eventually("it waits", || room.run(&["tree"]).contains("barrier").then_some(()));
    assert_eq!(room.run(&["barrier", "remove", "/barrier"]), "/barrier is removed\n");
    assert_eq!(waits.finish().0, Some(0));
    assert_eq!(room.run(&["barrier", "remove", "/barrier"]), "/barrier was not up\n");

    let counts = [("+2", "2\n"), ("-5", "-3\n"), ("+0.5", "-2.5\n")];
    for (amount, wanted) in counts {
        assert_eq!(room.run(&["counter", "/counter", amount]), wanted);
    }
    assert_eq!(room.run(&["counter", "/counter"]), "-2.5\n");
    let (code, _, said) = ran(room.zk(&["counter", "/counter", "2"]));
    assert_eq!(code, Some(2));
    assert!(said.contains("write +1, -2 or +0.5"), "{said}");
}

/// A kazoo player that leaves when the znode `/go` is there.
fn player(room: &Room) -> Process {
    kazoo(
        &room.at(),
        "from kazoo.recipe.barrier import DoubleBarrier\n\
         barrier = DoubleBarrier(zk, '/duel', 2)\n\
         barrier.enter()\n\
         say('entered')\n\
         while not zk.exists('/go'): time.sleep(0.02)\n\
         barrier.leave()\n\
         say('left')\n",
    )
}

#[test]
fn a_duel_begins_with_both_and_ends_with_both() {
    let room = Room::new();
    let dir = tempfile::tempdir().unwrap();
    let files = [dir.path().join("1"), dir.path().join("2")];
    let first = start_into(&room, &["duel", "/duel"], &files[0]);
    holds(&files[0], "Vou iniciar o jogo\n");
    eventually("it waits", || (room.run(&["tree"]).matches("ephemeral").count() == 1).then_some(()));
    let second = start_into(&room, &["duel", "/duel"], &files[1]);
    files.iter().for_each(|file| holds(file, "Vou iniciar o jogo\nO jogo vai começar\n"));
    first.signal(Signal::INT);
    holds(&files[0], "Vou encerrar a minha participação no jogo\n");
    assert!(!std::fs::read_to_string(&files[0]).unwrap().contains("encerrado"));
    second.signal(Signal::INT);
    assert_eq!((first.finish().0, second.finish().0), (Some(0), Some(0)));
    files.iter().for_each(|file| holds(file, "O jogo foi encerrado.\nA sua pontuação foi "));
    assert_eq!(room.run(&["ls", "/duel"]), "");
}

#[test]
fn a_duel_with_kazoo_begins_and_ends_in_both_orders() {
    for ours_first in [true, false] {
        let room = Room::new();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("game");
        // Left by a game that broke off: kazoo's own would let the next one in alone.
        room.run(&["create", "/duel/ready", "--parents"]);
        let (ours, theirs) = if ours_first {
            let ours = start_into(&room, &["duel", "/duel"], &file);
            eventually("the sign is gone", || (!room.run(&["ls", "/duel"]).contains("ready")).then_some(()));
            assert!(!std::fs::read_to_string(&file).unwrap().contains("O jogo vai"), "in alone");
            (ours, player(&room))
        } else {
            room.run(&["rm", "/duel/ready"]);
            let theirs = player(&room);
            eventually("it waits", || (room.run(&["tree"]).matches("ephemeral").count() == 1).then_some(()));
            assert_eq!(theirs.count("entered"), 0);
            (start_into(&room, &["duel", "/duel"], &file), theirs)
        };
        holds(&file, "O jogo vai começar\n");
        theirs.wait_for("entered");
        if ours_first {
            ours.signal(Signal::INT);
            holds(&file, "Vou encerrar");
            assert_eq!(theirs.count("left"), 0);
            room.run(&["create", "/go"]);
        } else {
            room.run(&["create", "/go"]);
            ours.signal(Signal::INT);
        }
        theirs.wait_for("left");
        assert_eq!(ours.finish().0, Some(0));
        holds(&file, "O jogo foi encerrado.\n");
    }
}

#[test]
fn a_second_interrupt_leaves_the_duel_at_once_and_so_does_one_before_it() {
    let room = Room::new();
    let dir = tempfile::tempdir().unwrap();
    let files = [dir.path().join("1"), dir.path().join("2")];
    let alone = start_into(&room, &["duel", "/duel"], &files[0]);
    eventually("it waits", || (room.run(&["tree"]).matches("ephemeral").count() == 1).then_some(()));
    alone.signal(Signal::INT);
    assert_eq!(alone.finish().0, Some(130));
    assert_eq!(room.run(&["ls", "/duel"]), "");
    let players = files.clone().map(|file| start_into(&room, &["duel", "/duel"], &file));
    files.iter().for_each(|file| holds(file, "O jogo vai começar\n"));
    let [first, second] = players;
    first.signal(Signal::INT);
    holds(&files[0], "Vou encerrar");
    first.signal(Signal::INT);
    assert_eq!(first.finish().0, Some(130));
    second.signal(Signal::INT);
    assert_eq!(second.finish().0, Some(0));
}

#[test]
fn znodes_are_seen_made_and_removed_by_hand() {
    let room = Room::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tree");
    let follows = start_into(&room, &["tree", "--follow"], &file);
    holds(&file, "/  v0\n");
    assert_eq!(room.run(&["create", "/a/b", "valor", "--parents"]), "/a/b\n");
    holds(&file, "+ /a/b  v0  b'valor'\n");
    room.run(&["set", "/a/b", "otro", "--version", "0"]);
    holds(&file, "* /a/b  v1  b'otro'\n");
    assert_eq!(room.run(&["get", "/a/b"]), "otro\n");
    assert!(room.run(&["get", "/a/b", "--stat"]).contains("owner        none, it is persistent\n"));
    assert_eq!(room.run(&["create", "/a/n-", "--sequential"]), "/a/n-0000000001\n");
    assert_eq!(room.run(&["ls", "/a"]), "b\nn-0000000001\n");
    let ephemeral = start(&room, &["create", "/a/e", "--ephemeral"]);
    holds(&file, "+ /a/e  ephemeral of 0x");
    ephemeral.signal(Signal::TERM);
    assert_eq!(ephemeral.finish().0, Some(0));
    holds(&file, "- /a/e  ephemeral of 0x");
    assert_eq!(room.run(&["tree", "/a"]), "/a  v0\n  b  v1  b'otro'\n  n-0000000001  v0\n");
    room.run(&["rm", "--recursive", "/a"]);
    holds(&file, "- /a  v0\n");
    follows.signal(Signal::INT);
    assert_eq!(follows.finish().0, Some(0));
    let refused = [
        (&["get", "/a"][..], "cannot read /a: there is no such znode; see what there is with acopio zk tree /"),
        (&["rm", "/a"], "cannot delete /a: there is no such znode"),
        (&["set", "/x", "1"], "cannot write /x: there is no such znode"),
        (&["create", "/x/y"], "cannot create /x/y: there is no such znode"),
        (&["rm", "/"], "cannot delete /: bad arguments"),
    ];
    for (args, words) in refused {
        let (code, _, said) = ran(room.zk(args));
        assert_eq!(code, Some(1), "{args:?}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn an_acl_that_forbids_is_told_and_a_login_opens_it() {
    let room = Room::new();
    let theirs = kazoo(
        &room.at(),
        "from kazoo.security import make_digest_acl\n\
         zk.create('/secret', b'42', acl=[make_digest_acl('ana', 'clave', all=True)])\n\
         say('made')\n",
    );
    theirs.wait_for("made");
    for args in [&["get", "/secret"][..], &["set", "/secret", "1"], &["ls", "/secret"], &["create", "/secret/x"]] {
        let (code, _, said) = ran(room.zk(args));
        assert_eq!(code, Some(1));
        assert!(said.contains("/secret") && said.contains("no permission: its ACL does not let this client"), "{said}");
    }
    for args in [&["lock", "/secret", "--", "true"][..], &["watch", "data", "/secret"], &["counter", "/secret"]] {
        let (code, _, said) = ran(room.zk(args));
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(said.contains("no permission"), "{args:?}: {said}");
    }
    assert!(room.run(&["tree"]).contains("secret  v0  (its ACL hides what it holds)"));
    assert_eq!(room.run(&["get", "/secret", "--auth", "digest:ana:clave"]), "42\n");
    let (code, _, said) = ran(room.zk(&["get", "/secret", "--auth", "nobody:x"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("it does not take the login; mend --auth"), "{said}");
}

/// Somebody who answers every connection, and is no ZooKeeper.
fn stranger(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                drop(socket.write_all(answer));
                drop(socket.read_to_end(&mut Vec::new()));
            });
        }
    });
    at
}

#[test]
fn who_is_no_zookeeper_is_told_from_nobody() {
    let free = crate::common::Port::reserve();
    let (code, _, said) = ran(zk(&free.at(), &["ls"]));
    assert_eq!(code, Some(1));
    let wanted =
        format!("acopio: no ZooKeeper at {0}: {0}: Connection refused (os error 111); start it, or name", free.at());
    assert!(said.contains(&wanted), "{said}");
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\xff\xff\xff\xff\xff", b"\0\0\0\x04abcd", b""] {
        let at = stranger(answer);
        let begun = std::time::Instant::now();
        let (code, _, said) = ran(zk(&at, &["ls"]));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("what answers there is no ZooKeeper; name another with --zookeeper"), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[test]
fn wrong_chroots_paths_and_addresses_are_told() {
    let room = Room::new();
    let (code, _, said) = ran(zk(&format!("{}/no/such", room.server()), &["ls"]));
    assert_eq!(code, Some(1));
    let wanted = format!(
        "the chroot /no/such is not there; create it with acopio zk --zookeeper {} create /no/such",
        room.server()
    );
    assert!(said.contains(&wanted), "{said}");
    let cases = [
        (&["get", "a"][..], "\"a\" is no path of a znode: it begins with a slash; write one such as /mediciones/1"),
        (&["get", "/a//b"], "no part of it is empty"),
        (&["lock", "/a/../b", "--", "true"], "without . and .."),
        (&["lock", "/a", "--layout", "x/y", "--", "true"], "a prefix is one word without a slash"),
        (&["lock", "/a"], "<CMD>"),
        (&["ls", "--zookeeper", "host:port"], "write HOST:PORT[,HOST:PORT...][/chroot]"),
        (&["ls", "--zookeeper", "host:1/a/"], "the chroot \"/a/\" is no path of a znode"),
        (&["ls", "--auth", "secret"], "write SCHEME:SECRET"),
    ];
    for (args, words) in cases {
        let (code, _, said) = ran(room.zk(args));
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    let (code, _, said) = ran(room.zk(&["lock", "/a", "--", "/no/such/program"]));
    assert_eq!(code, Some(1));
    assert!(
        said.contains("cannot run /no/such/program: No such file or directory (os error 2); name a command"),
        "{said}"
    );
    assert_eq!(room.run(&["ls", "/a"]), "");
    // The variable of the seeds' programs.
    let mut command = room.zk(&["ls"]);
    command.env_remove("ACOPIO_ZOOKEEPER").env("ZK_HOST", room.at());
    assert_eq!(ran(command).1, "a\n");
    let mut command = room.zk(&["ls"]);
    command.env_remove("ACOPIO_ZOOKEEPER").env("ZK_HOST", "a b");
    let (code, _, said) = ran(command);
    assert!(code == Some(1) && said.contains("the variable ZK_HOST: \"a b\" is not an address"), "{said}");
}
