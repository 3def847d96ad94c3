//! The opening of a crate says in which order it is read.
//!
//! Invariant: a module that is added to a `lib.rs` and not to its reading order is a problem.

use super::Problem;
use super::tree::File;

/// Checks that every module of every `src/lib.rs` stands in that file's reading order.
pub(super) fn check(files: &[File]) -> Vec<Problem> {
    let libraries = files.iter().filter(|file| file.path.ends_with("src/lib.rs"));
    libraries.flat_map(missing).collect()
}

fn missing(library: &File) -> Vec<Problem> {
    let order = reading_order(&library.text);
    let lines = library.text.lines().enumerate();
    let modules = lines.filter_map(|(index, line)| Some((index + 1, module(line)?)));
    let unread =
        modules.filter(|(_, name)| *name != "tests" && !order.contains(&format!("`{name}`")));
    let problem = |(line, name)| {
        let text = format!("`{name}` is not in the reading order at the top of the file; add it");
        Problem::new(&library.path, line, text)
    };
    unread.map(problem).collect()
}

/// What the opening says from the words "reading order" or "in this order" on.
fn reading_order(text: &str) -> String {
    let opening = text.lines().map_while(|line| line.strip_prefix("//!"));
    let opening: Vec<&str> = opening.map(str::trim).collect();
    let opening = opening.join(" ");
    let begins = ["Reading order:", "in this order:"].iter().find_map(|words| opening.find(words));
    begins.map(|at| opening[at..].to_owned()).unwrap_or_default()
}

/// The name in `mod name;`, whoever may see it.
fn module(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    line.strip_prefix("mod ")?.strip_suffix(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        let problems = check(&[File::new("runtime/core/src/lib.rs", text)]);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_module_that_is_not_in_the_reading_order_is_a_problem() {
        let text = "//! What it is, with `two`.\n//!\n//! Reading order: `one`,\n//! [`three`].\n\n\
                    mod one;\npub mod two;\npub mod three;\n#[cfg(test)]\nmod tests;\n";
        let found = said(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("runtime/core/src/lib.rs:7: `two` is not in"), "{found:?}");
    }

    #[test]
    fn a_crate_with_modules_and_no_reading_order_has_a_problem_for_each() {
        assert_eq!(said("//! What it is: `one`.\n\nmod one;\nmod two;\n").len(), 2);
        assert_eq!(said("//! What it is, in one file.\n\nfn one() {}\n").len(), 0);
    }
}
