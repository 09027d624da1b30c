//! Decisions of a head, one at a time. The walks try them together.
use super::*;
