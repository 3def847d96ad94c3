//! `cargo xtask ci`: what continuous integration runs.
//!
//! Invariant: it is `cargo xtask test` and nothing else, so that a green run here is a green run
//! there.

use anyhow::Result;

use crate::test;

/// Runs every check and every test.
pub(crate) fn run(options: &test::Options) -> Result<()> {
    test::run(options)
}
