//! `acopio health` against real processes: its exit codes are what health checks go by.

use crate::common::{Head, Signal, acopio, eventually};

fn health(args: &[&str]) -> (Option<i32>, String) {
    let output = acopio().arg("health").args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn a_head_is_well_if_it_answers_and_a_data_node_if_it_is_registered() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let node = head.node(dir.path(), 1, &[]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();

    let (code, text) = health(&["--ask", &head.at()]);
    assert_eq!((code, text), (Some(0), format!("healthy: head {}: it answers, with 1 data nodes\n", head.at())));
    // Of several heads one is enough.
    let (code, text) = health(&["--ask", &format!("{nobody},{}", head.at()), "--node", "data1"]);
    assert!(code == Some(0) && text.contains("data node data1 is disponible"), "{text}");
    let (code, text) = health(&["--ask", &head.at(), "--node", "data2"]);
    assert!(code == Some(1) && text.starts_with("not healthy: ") && text.contains("is not registered"), "{text}");
    let (code, text) = health(&["--ask", &nobody]);
    assert!(code == Some(1) && text.contains("Connection refused"), "{text}");

    node.signal(Signal::TERM);
    eventually("the node is not well any more", || {
        (health(&["--ask", &head.at(), "--node", "data1"]).0 == Some(1)).then_some(())
    });
}

#[test]
fn without_a_role_as_pid_1_the_head_of_this_machine_is_asked() {
    let (_, text) = health(&[]);
    assert!(text.contains("healthy: head 127.0.0.1:5000: "), "{text}");
    assert_eq!(health(&["--node", "data1"]).0, Some(2), "a node of which head?");
}
