//! What the program does, seen from outside: one program of tests, so that it is linked once. A file is a subject.
//!
//! Not here: tests that need an engine of containers (`tests/docker.rs`) or a file system of their own
//! (`tests/power_loss.rs`), which run apart.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests and their helpers stop at the first surprise"
)]

#[path = "../common/mod.rs"]
mod common;

mod audit;
mod bad_input;
mod bench;
mod broker;
mod broker_calc;
mod broker_election;
mod broker_keep;
mod broker_peers;
mod clase;
mod collect;
mod copies;
mod damage;
mod device;
mod docker_errors;
mod ending;
mod failover;
mod failures;
mod fake_head;
mod faults;
mod forged;
mod forty;
mod framed_dialect;
mod fuzz;
mod half_open;
mod hands;
mod heads;
mod health;
mod help;
mod identity;
mod idle;
mod keys;
mod ledgers;
mod line_dialect;
mod mend;
mod names;
mod numbers;
mod page;
mod page_doors;
mod patience;
mod places;
mod printing;
mod python_client;
mod python_vectors;
mod raw_dialect;
mod read;
mod read_cluster;
mod read_fields;
mod reader_library;
mod reading;
mod registro;
mod repair;
mod replay;
mod retention;
mod send;
mod shares;
mod simulation;
mod solo;
mod status;
mod strangers;
mod text_nodes;
mod tls;
mod tokens;
mod top;
mod torture;
mod units;
mod up;
mod verify;
mod versions;
mod watching;
mod web;
mod web_api;
mod web_document;
mod wire_document;
#[cfg(feature = "coord")]
mod zookeeper_commands;
#[cfg(feature = "coord")]
mod zookeeper_failures;
#[cfg(feature = "coord")]
mod zookeeper_heads;
#[cfg(feature = "coord")]
mod zookeeper_recipes;
