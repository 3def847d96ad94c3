//! Who may reach for files, clocks, threads and hash maps.
//!
//! Invariant: every exception is named here, with its reason.

use super::tree::File;
use super::{Problem, lexer, paths};

/// Paths that only some files may name.
struct Rule {
    /// The files it holds for, by the beginnings of their paths; empty means all.
    within: &'static [&'static str],
    /// What may not be named: a path, or one part of a path when it has no `::`.
    banned: &'static [&'static str],
    /// The files that may, each with the reason.
    except: &'static [(&'static str, &'static str)],
    /// Whether tests may.
    tests_may: bool,
    /// What to do instead.
    instead: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        within: &[],
        banned: &["std::fs", "tokio::fs", "std::os::unix::fs", "rustix::fs"],
        except: &[
            ("runtime/storage/", "it is the crate that remembers"),
            ("runtime/transport/src/tls", "certificates and keys are files by nature"),
            ("runtime/transport/src/identity", "certificates and keys are files by nature"),
            ("runtime/broker/src/config", "the configuration is a file that an operator writes"),
            ("ops/etl/", "files are where its records go and come from"),
            ("ops/cli/", "it reads and writes what its user names"),
            ("ops/xtask/", "it works on the source tree"),
            ("tests/", "tests look at what is on the disk, and spoil it"),
        ],
        tests_may: true,
        instead: "go through millstream-storage",
    },
    Rule {
        within: &["runtime/core/"],
        banned: &[
            "std::time::Instant",
            "std::time::SystemTime",
            "Instant",
            "SystemTime",
            "std::thread",
            "std::net",
            "std::env",
            "std::process",
            "std::io",
            "tokio",
            "rand",
        ],
        except: &[],
        tests_may: false,
        instead: "core decides from its inputs alone: pass it in",
    },
    Rule {
        within: &["runtime/core/"],
        banned: &[
            "HashMap",
            "HashSet",
            "hash_map",
            "hash_set",
            "RandomState",
            "std::collections::*",
        ],
        except: &[],
        tests_may: false,
        instead: "iteration must be the same everywhere: use BTreeMap or BTreeSet",
    },
    Rule {
        within: &["runtime/protocol/"],
        banned: &["std::net::TcpStream", "std::net::UdpSocket", "std::thread", "tokio", "Instant"],
        except: &[],
        tests_may: true,
        instead: "protocol is bytes and types: the caller does the work",
    },
];

/// Checks every Rust file against every rule.
pub(super) fn check(files: &[File]) -> Vec<Problem> {
    let rust = files.iter().filter(|file| file.is_rust() && !file.is_expected_output());
    rust.flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Problem> {
    let code = lexer::code_only(&file.text);
    let without_tests = lexer::without_tests(&code);
    let mut problems = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.holds_for(file)) {
        let code = if rule.tests_may { &without_tests } else { &code };
        for (line, path) in paths::paths(code) {
            if let Some(banned) = rule.banned.iter().find(|banned| names(&path, banned)) {
                let text = format!("`{path}` names {banned}; {}", rule.instead);
                problems.push(Problem::new(&file.path, line, text));
            }
        }
    }
    problems
}

fn names(path: &str, banned: &str) -> bool {
    if banned.contains("::") {
        paths::touches(path, banned)
    } else {
        path.split("::").any(|part| part == banned)
    }
}

impl Rule {
    fn holds_for(&self, file: &File) -> bool {
        let starts = |prefix: &str| file.path.starts_with(prefix);
        let within = self.within.is_empty() || self.within.iter().any(|prefix| starts(prefix));
        let excepted = self.except.iter().any(|(prefix, _)| starts(prefix));
        within && !excepted && !(self.tests_may && file.is_test())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&[File::new(path, text)]).into_iter().map(|problem| problem.line).collect()
    }

    #[test]
    fn files_are_refused_outside_storage_and_its_named_exceptions() {
        let text = "use std::{fs, io};\nfn f() { tokio::fs::read(1); }\n";
        assert_eq!(lines("runtime/broker/src/serve/fetch.rs", text), [1, 2]);
        assert_eq!(lines("sdk/client/src/lib.rs", text), [1, 2]);
        for allowed in [
            "runtime/storage/src/disk.rs",
            "runtime/transport/src/tls.rs",
            "runtime/broker/src/config.rs",
            "ops/cli/src/main.rs",
            "tests/cluster/tests/kill.rs",
            "sdk/client/tests/produce.rs",
        ] {
            assert_eq!(lines(allowed, text), [0_usize; 0], "{allowed}");
        }
    }

    #[test]
    fn a_test_inside_a_source_file_may_use_files() {
        let text =
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\nuse std::fs::File;\n";
        assert_eq!(lines("runtime/broker/src/lib.rs", text), [6]);
    }

    #[test]
    fn core_may_name_no_clock_thread_socket_or_hash_map_even_in_tests() {
        for banned in [
            "use std::time::Instant;",
            "use std::time::{Duration, SystemTime};",
            "let t = Instant::now();",
            "use std::collections::HashMap;",
            "use std::collections::{BTreeMap, HashSet};",
            "std::thread::spawn(f);",
            "use std::net::SocketAddr;",
            "#[cfg(test)] mod tests { use std::collections::HashMap; }",
            "tokio::spawn(f);",
        ] {
            assert_eq!(lines("runtime/core/src/log.rs", banned), [1], "{banned}");
        }
        let fine = "use std::time::Duration;\nuse std::collections::BTreeMap;\n// HashMap\n";
        assert_eq!(lines("runtime/core/src/log.rs", fine), [0_usize; 0]);
    }

    #[test]
    fn what_core_may_not_others_may() {
        let text = "use std::collections::HashMap;\nuse std::time::Instant;\n";
        assert_eq!(lines("runtime/broker/src/lib.rs", text), [0_usize; 0]);
    }
}
