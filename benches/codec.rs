//! Codec.
fn main() {}
