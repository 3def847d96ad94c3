//! Documents that keep up with the tree.
//!
//! Invariant: every crate is in the code map, and every relative link leads somewhere.

use std::collections::BTreeSet;

use super::Problem;
use super::manifests::Crate;
use super::tree::File;

const MAPS: [&str; 2] = ["README.md", "runtime/ARCHITECTURE.md"];

/// Checks the code map and the links between documents.
pub(super) fn check(crates: &[Crate], files: &[File]) -> Vec<Problem> {
    let mut problems = unmapped(crates, files);
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        problems.extend(dead_links(file, files));
    }
    problems
}

fn unmapped(crates: &[Crate], files: &[File]) -> Vec<Problem> {
    let maps: Vec<&File> = files.iter().filter(|file| MAPS.contains(&file.path.as_str())).collect();
    let named = |folder: &str| maps.iter().any(|map| map.text.contains(folder));
    // `folder/*` speaks for all crates of a folder.
    let family = |folder: &str| folder.rsplit_once('/').map(|(parent, _)| format!("{parent}/*"));
    let mapped = |one: &&Crate| {
        named(&one.folder) || family(&one.folder).is_some_and(|family| named(&family))
    };
    let lost = crates.iter().filter(|one| !mapped(one));
    lost.map(|one| {
        let text = format!("{} is mentioned neither in {} nor in {}", one.folder, MAPS[0], MAPS[1]);
        Problem::new(&format!("{}/Cargo.toml", one.folder), 0, text)
    })
    .collect()
}

fn dead_links(file: &File, files: &[File]) -> Vec<Problem> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut there: BTreeSet<&str> = BTreeSet::new();
    for other in files {
        there.insert(&other.path);
        there.extend(other.path.match_indices('/').map(|(at, _)| &other.path[..at]));
    }
    let mut problems = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for link in links(line) {
            if !there.contains(resolve(folder, link).as_str()) {
                let text = format!("the link to {link} leads nowhere");
                problems.push(Problem::new(&file.path, index + 1, text));
            }
        }
    }
    problems
}

/// The relative targets of `[text](target)` in a line, without their fragments.
fn links(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let paths = targets.map(|(target, _)| target.split('#').next().unwrap_or_default());
    paths.filter(|path| !path.is_empty() && !path.contains(':')).collect()
}

fn resolve(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(folder: &str) -> Crate {
        Crate {
            name: "some".into(),
            folder: folder.into(),
            dependencies: Vec::new(),
            dev_dependencies: Vec::new(),
        }
    }

    #[test]
    fn a_crate_outside_the_code_map_is_a_problem() {
        let files = [File::new("README.md", "| runtime/core | decides |\n| guests/* | examples |")];
        let crates = [named("runtime/core"), named("guests/one"), named("runtime/lost")];
        let problems = check(&crates, &files);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].text.starts_with("runtime/lost is mentioned neither"));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_a_problem() {
        let files = [
            File::new(
                "runtime/A.md",
                "[up](../README.md) [down](decisions/1.md#part) [gone](x.md)",
            ),
            File::new(
                "README.md",
                "[folder](runtime/decisions) [web](https://example.com) [here](#a)",
            ),
            File::new("runtime/decisions/1.md", ""),
        ];
        let problems = check(&[], &files);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].text.contains("x.md"));
    }
}
