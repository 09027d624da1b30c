//! The solo head: no data nodes, its own log, and text messages echoed as the original's server did.

use std::io::Write;

use crate::common::{Head, Signal, acopio, payloads, ran, read_once, verify_clean};

#[test]
fn a_solo_head_keeps_and_echoes() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("solo");
    let more = ["--solo", "--dir", data.to_str().unwrap()];
    let mut head = Head::start(dir.path(), &more);
    let mut client = head.raw();
    for text in ["numero random: 1", "numero random: 2"] {
        client.write_all(text.as_bytes()).unwrap();
        assert_eq!(read_once(&mut client), text);
    }
    assert_eq!(head.nc(b"peticion\nhola\nadios\n"), "confirmacion\nhola\nadios\n");
    let mut stranger = head.raw();
    stranger.write_all(b"dataNode").unwrap();
    assert!(read_once(&mut stranger).starts_with("error: this head is solo"));
    head.process.signal(Signal::TERM);
    assert_eq!(head.process.wait().code(), Some(0), "{}", head.process.all());
    assert_eq!(payloads(dir.path()).len(), 4);
    verify_clean(dir.path(), &["solo"]);
    let head = Head::start(dir.path(), &more);
    assert_eq!(head.nc(b"peticion\notra vez\n"), "confirmacion\notra vez\n");
    assert_eq!(payloads(dir.path()).len(), 5, "a second start goes on with the data");
    head.process.kill();
    std::fs::remove_file(data.join("data.txt")).unwrap();
    let head = Head::start(dir.path(), &more);
    let said = head.process.wait_for("data.txt had ");
    assert!(said.contains("bytes that were synced, and 0 are left: the node starts as "), "{said}");
    assert_eq!(head.nc(b"peticion\nde nuevo\n"), "confirmacion\nde nuevo\n");
    // What is lost is missed until a person says that it is.
    let run = |words: &[&str]| {
        let mut command = acopio();
        command.args(words).args(["--head", &head.at()]);
        ran(command)
    };
    let read = || run(&["read", "--count", "--retry-for", "1s"]);
    let (code, count, said) = read();
    assert!(code == Some(1) && said.contains("solo"), "{code:?} {count} {said}");
    let (code, _, said) = run(&["drain", "solo", "--gone", "--lose"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, count, said) = read();
    assert_eq!((code, count.as_str()), (Some(0), "1\n"), "{said}");
}
