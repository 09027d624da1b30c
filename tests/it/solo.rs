//! The solo head: no data nodes, its own log, and text messages echoed as the original's server did.

use std::io::Write;

use crate::common::{self, Head, Signal, payloads, read_once, verify_clean};

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
    let mut command = common::acopio();
    command.args(["head", "--listen", "127.0.0.1:0", "--logs"]).arg(dir.path().join("head")).args(more);
    let (code, _, said) = common::Process::start(command).finish();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("its log is lost; restore it from a backup, or start once with --new-id"), "{said}");
    let head = Head::start(dir.path(), &[&more[..], &["--new-id"]].concat());
    assert_eq!(head.nc(b"peticion\nde nuevo\n"), "confirmacion\nde nuevo\n");
}
