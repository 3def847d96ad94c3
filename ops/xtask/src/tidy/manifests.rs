//! The dependency rule: who may import whom, and who may import the large libraries.
//!
//! Invariant: a crate that stands in no row of the table is a problem, so that the rule holds for
//! crates that are added later.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Problem;
use super::tree::File;

/// A crate of the workspace, as cargo sees it.
#[derive(Clone, Debug)]
pub(super) struct Crate {
    /// Its name.
    pub(super) name: String,
    /// Its folder from the root.
    pub(super) folder: String,
    /// What it depends on: normally, or for its build.
    pub(super) dependencies: Vec<String>,
    /// What only its tests and examples depend on.
    pub(super) dev_dependencies: Vec<String>,
}

/// What a crate may import.
struct Row {
    /// The crate's folder, or the beginning of several crates' folders when it ends with `/`.
    folder: &'static str,
    /// The crates of the workspace that it may import.
    ours: &'static [&'static str],
    /// The crates of the workspace that its tests and examples may import besides.
    for_tests: &'static [&'static str],
    /// The guarded libraries that it may import.
    guarded: &'static [&'static str],
}

/// Libraries that only some crates may import. Everybody may import any other.
const GUARDED: &[&str] = &[
    "quinn",
    "quinn-proto",
    "quinn-udp",
    "rustls",
    "rustls-webpki",
    "rcgen",
    "redb",
    "wasmtime",
    "wasmtime-wasi",
    "wasmparser",
    "tokio",
    "tokio-util",
    "axum",
    "hyper",
];

const PROTOCOL: &str = "millstream-protocol";
const STORAGE: &str = "millstream-storage";
const TRANSPORT: &str = "millstream-transport";
const MODULES: &str = "millstream-modules";

/// Core decides, storage remembers, transport carries, modules run guests, broker wires.
const TABLE: &[Row] = &[
    Row { folder: "runtime/protocol", ours: &[], for_tests: &[], guarded: &[] },
    Row { folder: "runtime/core", ours: &[PROTOCOL], for_tests: &[], guarded: &[] },
    Row { folder: "runtime/storage", ours: &[PROTOCOL], for_tests: &[], guarded: &["redb"] },
    Row {
        folder: "runtime/transport",
        ours: &[PROTOCOL],
        for_tests: &[],
        guarded: &[
            "quinn",
            "quinn-proto",
            "quinn-udp",
            "rustls",
            "rustls-webpki",
            "rcgen",
            "tokio",
            "tokio-util",
        ],
    },
    Row {
        folder: "runtime/modules",
        ours: &[PROTOCOL],
        for_tests: &[],
        guarded: &["wasmtime", "wasmparser", "tokio", "tokio-util"],
    },
    Row {
        folder: "runtime/broker",
        ours: &["millstream-core", PROTOCOL, STORAGE, TRANSPORT, MODULES],
        for_tests: &[],
        guarded: &["tokio", "tokio-util", "axum", "hyper"],
    },
    Row {
        folder: "sdk/client",
        ours: &[PROTOCOL, TRANSPORT],
        for_tests: &["millstream-tests-cluster"],
        guarded: &["tokio", "tokio-util"],
    },
    Row { folder: "sdk/guest", ours: &[], for_tests: &[], guarded: &[] },
    Row { folder: "guest-examples/", ours: &["millstream-guest"], for_tests: &[], guarded: &[] },
    Row {
        folder: "ops/etl",
        ours: &["millstream-client", PROTOCOL],
        for_tests: &[],
        guarded: &["tokio"],
    },
    Row {
        folder: "ops/cli",
        ours: &[
            "millstream-broker",
            "millstream-client",
            "millstream-etl",
            PROTOCOL,
            STORAGE,
            TRANSPORT,
        ],
        for_tests: &[],
        guarded: &["tokio", "tokio-util"],
    },
    Row { folder: "ops/xtask", ours: &[], for_tests: &[], guarded: &[] },
    Row {
        folder: "tests/simulation",
        ours: &["millstream-core", PROTOCOL, STORAGE],
        for_tests: &[],
        guarded: &[],
    },
    Row {
        folder: "tests/cluster",
        ours: &["millstream-broker", "millstream-client", PROTOCOL, STORAGE, TRANSPORT],
        for_tests: &[],
        guarded: &["tokio", "tokio-util"],
    },
    Row {
        folder: "tests/modules/guests/",
        ours: &["millstream-guest"],
        for_tests: &[],
        guarded: &[],
    },
    Row {
        folder: "tests/modules",
        ours: &[PROTOCOL, MODULES, "millstream-guest"],
        for_tests: &[],
        guarded: &["tokio", "tokio-util"],
    },
];

/// Crates that turn `unsafe` off for good.
const FORBID_UNSAFE: &[&str] = &["runtime/core", "runtime/protocol", "runtime/storage"];

/// The workspace's crates, from what `cargo metadata --no-deps` says.
pub(super) fn crates(metadata: &Value, root: &Path) -> Result<Vec<Crate>> {
    let root = root.canonicalize().context("the root is gone")?;
    let packages = metadata["packages"].as_array().context("metadata without packages")?;
    packages.iter().map(|package| a_crate(package, &root)).collect()
}

fn a_crate(package: &Value, root: &Path) -> Result<Crate> {
    let name = package["name"].as_str().context("a package without a name")?.to_owned();
    let manifest = package["manifest_path"].as_str().context("a package without a path")?;
    let manifest = Path::new(manifest).canonicalize()?;
    let folder = manifest.parent().unwrap_or(root).strip_prefix(root);
    let folder = folder.with_context(|| format!("{name} lies outside the workspace"))?;
    let dependencies = package["dependencies"].as_array().context("no dependencies")?;
    let (dev, always): (Vec<&Value>, Vec<&Value>) =
        dependencies.iter().partition(|dependency| dependency["kind"] == "dev");
    let names = |of: Vec<&Value>| {
        of.into_iter().filter_map(|one| one["name"].as_str()).map(str::to_owned).collect()
    };
    let folder = folder.to_string_lossy().replace('\\', "/");
    Ok(Crate { name, folder, dependencies: names(always), dev_dependencies: names(dev) })
}

/// Checks what every crate imports, and that it takes the workspace's lints.
pub(super) fn check(crates: &[Crate], files: &[File]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for one in crates {
        let path = format!("{}/Cargo.toml", one.folder);
        let Some(row) = TABLE.iter().find(|row| row.is_for(&one.folder)) else {
            let text = format!("{} stands in no row of the dependency rule; add one", one.name);
            problems.push(Problem::new(
                &path,
                0,
                format!("{text} in ops/xtask/src/tidy/manifests.rs"),
            ));
            continue;
        };
        let all = one.dependencies.iter().map(|name| (name, false));
        let dev = one.dev_dependencies.iter().map(|name| (name, true));
        for (dependency, for_tests) in all.chain(dev) {
            let ours = crates.iter().any(|other| other.name == *dependency);
            let name = dependency.as_str();
            let guarded = GUARDED.contains(&name);
            let allowed = row.ours.contains(&name)
                || row.guarded.contains(&name)
                || (for_tests && row.for_tests.contains(&name));
            if (ours || guarded) && !allowed {
                let text = format!("{} may not depend on {dependency}", one.name);
                let who = if guarded { owners(dependency) } else { String::new() };
                problems.push(Problem::new(&path, 0, text + &who));
            }
        }
        problems.extend(check_lints(&path, files));
        if FORBID_UNSAFE.contains(&one.folder.as_str()) {
            problems.extend(check_unsafe(&one.folder, files));
        }
    }
    problems
}

fn owners(library: &str) -> String {
    let owners = TABLE.iter().filter(|row| row.guarded.contains(&library));
    let folders: Vec<&str> = owners.map(|row| row.folder).collect();
    if folders.is_empty() {
        "; nobody may".into()
    } else {
        format!("; only {} may", folders.join(", "))
    }
}

fn check_lints(path: &str, files: &[File]) -> Option<Problem> {
    let manifest = files.iter().find(|file| file.path == path)?;
    let mut lines = manifest.text.lines().map(str::trim);
    lines.find(|line| *line == "[lints]");
    let inherited =
        lines.take_while(|line| !line.starts_with('[')).any(|line| line == "workspace = true");
    (!inherited).then(|| Problem::new(path, 0, "does not say [lints] workspace = true"))
}

fn check_unsafe(folder: &str, files: &[File]) -> Option<Problem> {
    let path = format!("{folder}/src/lib.rs");
    let library = files.iter().find(|file| file.path == path)?;
    let forbidden = library.text.contains("#![forbid(unsafe_code)]");
    (!forbidden).then(|| Problem::new(&path, 0, "does not say #![forbid(unsafe_code)]"))
}

impl Row {
    fn is_for(&self, folder: &str) -> bool {
        folder == self.folder || (self.folder.ends_with('/') && folder.starts_with(self.folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, folder: &str, dependencies: &[&str]) -> Crate {
        let dependencies = dependencies.iter().map(|&name| name.to_owned()).collect();
        let (name, folder) = (name.to_owned(), folder.to_owned());
        Crate { name, folder, dependencies, dev_dependencies: Vec::new() }
    }

    fn said(crates: &[Crate], files: &[File]) -> Vec<String> {
        check(crates, files).into_iter().map(|problem| problem.text).collect()
    }

    #[test]
    fn the_parts_never_import_each_other() {
        let crates = [
            one("millstream-protocol", "runtime/protocol", &[]),
            one("millstream-core", "runtime/core", &["millstream-protocol", "millstream-storage"]),
            one("millstream-storage", "runtime/storage", &["millstream-transport"]),
            one("millstream-transport", "runtime/transport", &["millstream-core"]),
        ];
        assert_eq!(
            said(&crates, &[]),
            [
                "millstream-core may not depend on millstream-storage",
                "millstream-storage may not depend on millstream-transport",
                "millstream-transport may not depend on millstream-core",
            ]
        );
    }

    #[test]
    fn each_large_library_has_one_owner() {
        for (library, owner) in [
            ("quinn", "runtime/transport"),
            ("redb", "runtime/storage"),
            ("wasmtime", "runtime/modules"),
        ] {
            for row in TABLE {
                let found = said(&[one("some", row.folder, &[library])], &[]);
                assert_eq!(found.is_empty(), row.folder == owner, "{library} in {}", row.folder);
            }
        }
    }

    #[test]
    fn tokio_stays_out_of_the_crates_that_decide_remember_and_describe() {
        for folder in ["runtime/core", "runtime/protocol", "runtime/storage", "sdk/guest"] {
            assert_eq!(said(&[one("some", folder, &["tokio"])], &[]).len(), 1, "{folder}");
        }
    }

    #[test]
    fn only_the_clients_examples_may_import_the_harness_of_the_real_processes() {
        let harness = || one("millstream-tests-cluster", "tests/cluster", &[]);
        let mut client = one("millstream-client", "sdk/client", &[]);
        client.dev_dependencies.push("millstream-tests-cluster".into());
        assert_eq!(said(&[harness(), client], &[]).len(), 0);
        let client = one("millstream-client", "sdk/client", &["millstream-tests-cluster"]);
        assert_eq!(said(&[harness(), client], &[]).len(), 1);
        let mut core = one("millstream-core", "runtime/core", &[]);
        core.dev_dependencies.push("millstream-tests-cluster".into());
        assert_eq!(said(&[harness(), core], &[]).len(), 1);
    }

    #[test]
    fn a_crate_that_nobody_thought_of_is_a_problem() {
        let found = said(&[one("new", "runtime/new", &[])], &[]);
        assert!(found[0].contains("no row"), "{found:?}");
    }

    #[test]
    fn a_guest_example_may_only_import_the_guest_sdk_of_ours() {
        let guest = one("millstream-guest", "sdk/guest", &[]);
        let core = one("millstream-core", "runtime/core", &[]);
        let good = one("good", "guest-examples/good", &["millstream-guest"]);
        let bad = one("bad", "guest-examples/bad", &["millstream-core"]);
        assert_eq!(said(&[guest, core, good, bad], &[]), ["bad may not depend on millstream-core"]);
    }

    #[test]
    fn every_crate_takes_the_workspaces_lints() {
        let xtask = [one("xtask", "ops/xtask", &[])];
        let path = "ops/xtask/Cargo.toml";
        let without =
            File::new(path, "[package]\nname = \"xtask\"\n[lints]\n[x]\nworkspace = true\n");
        let with = File::new(path, "[package]\n[lints]\nworkspace = true\n");
        assert_eq!(said(&xtask, &[without]).len(), 1);
        assert_eq!(said(&xtask, &[with]).len(), 0);
    }

    #[test]
    fn the_crates_that_hold_data_forbid_unsafe_code() {
        let core = [one("millstream-core", "runtime/core", &[])];
        let without = File::new("runtime/core/src/lib.rs", "//! Core.\n");
        let with = File::new("runtime/core/src/lib.rs", "//! Core.\n#![forbid(unsafe_code)]\n");
        assert_eq!(said(&core, &[without]).len(), 1);
        assert_eq!(said(&core, &[with]).len(), 0);
    }

    #[test]
    fn crates_are_read_from_what_cargo_says() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("runtime/core");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("Cargo.toml"), "").unwrap();
        let metadata = serde_json::json!({ "packages": [{
            "name": "millstream-core",
            "manifest_path": folder.join("Cargo.toml"),
            "dependencies": [{ "name": "serde", "kind": null }, { "name": "tokio", "kind": "dev" }],
        }]});
        let crates = crates(&metadata, root.path()).unwrap();
        assert_eq!(crates[0].folder, "runtime/core");
        assert_eq!(crates[0].dependencies, ["serde"]);
        assert_eq!(crates[0].dev_dependencies, ["tokio"]);
    }
}
