//! Complexity: what would keep a compiler busy for very long is refused before it begins.
//!
//! A compiler's time grows faster than the length of one function, and with its variables; with the
//! number of functions it grows as fast as they do. The bounds are far beyond what real modules have: the largest
//! function of the examples has 6 KiB.
//!
//! Invariant: what passes compiles in a time that grows with its bytes.

use wasmparser::{Parser, Payload};

/// Bytes of one function.
const FUNCTION_BYTES: usize = 256 << 10;
/// Variables of one function.
const LOCALS: u64 = 10_000;
/// Functions of all modules in the component.
const FUNCTIONS: u32 = 200_000;

/// Says what is too much, if something is.
pub(crate) fn too_complex(bytes: &[u8]) -> wasmparser::Result<Option<String>> {
    let mut functions = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        let Payload::CodeSectionEntry(body) = payload? else { continue };
        functions += 1;
        if FUNCTIONS < functions {
            return Ok(Some(format!("more than {FUNCTIONS} functions")));
        }
        let len = body.range().len();
        if FUNCTION_BYTES < len {
            let at = body.range().start;
            return Ok(Some(format!(
                "the function at byte {at} has {len} bytes, the most is {FUNCTION_BYTES}"
            )));
        }
        let mut locals = 0_u64;
        for group in body.get_locals_reader()? {
            locals += u64::from(group?.0);
        }
        if LOCALS < locals {
            let at = body.range().start;
            return Ok(Some(format!(
                "the function at byte {at} has {locals} variables, the most is {LOCALS}"
            )));
        }
    }
    Ok(None)
}
