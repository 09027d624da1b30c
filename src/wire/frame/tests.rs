//! Tests of the framed dialect.
