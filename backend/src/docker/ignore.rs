//! `.dockerignore`: what of a folder is not sent to a build.
//!
//! One rule a line; blank lines and lines that begin with `#` are none. A rule is a path from the folder, in which `*`
//! stands for any characters of one name, `?` for one, `[a-z]` and `[^a-z]` for one of a set, `\` takes the next
//! character as it is, and a name `**` stands for any number of folders. It covers what it names and all below.
//! `!` before a rule includes again what it covers. The last rule that covers a path decides. The Dockerfile at the top
//! is always sent, because the build needs it.

use std::path::Path;

/// The rules of one file, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    includes: bool,
    names: Vec<String>,
}

impl Rules {
    /// Reads the text of a `.dockerignore`.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(|line| Rule::parse(line.trim())).collect())
    }

    /// Whether `path`, relative to the folder, is left out.
    pub(super) fn exclude(&self, path: &Path) -> bool {
        if path == Path::new("Dockerfile") {
            return false;
        }
        let names: Vec<String> = path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        self.0.iter().rev().find(|rule| covers(&rule.names, &names)).is_some_and(|rule| !rule.includes)
    }

    /// Whether there can be something to send in a folder that is left out.
    pub(super) fn may_include_within_excluded(&self) -> bool {
        self.0.iter().any(|rule| rule.includes)
    }
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let (includes, path) = match line.strip_prefix('!') {
            Some(path) => (true, path.trim()),
            None => (false, line),
        };
        let names: Vec<String> =
            path.split('/').filter(|name| !name.is_empty() && *name != ".").map(str::to_owned).collect();
        (!names.is_empty()).then_some(Self { includes, names })
    }
}

/// Whether a rule's names match the path or a folder above it.
fn covers(rule: &[String], path: &[String]) -> bool {
    match rule.split_first() {
        None => true,
        // `a/**` is what is in `a`, not `a`.
        Some((first, rest)) if first == "**" => {
            let least = usize::from(rest.is_empty());
            (least..=path.len()).any(|skipped| covers(rest, &path[skipped..]))
        }
        Some((first, rest)) => path.split_first().is_some_and(|(name, below)| {
            let (pattern, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            matches(&pattern, &name) && covers(rest, below)
        }),
    }
}

/// Whether one name matches.
fn matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=name.len()).any(|taken| matches(rest, &name[taken..])),
        (['?', rest @ ..], [_, after @ ..]) => matches(rest, after),
        (['\\', literal, rest @ ..], [first, after @ ..]) => literal == first && matches(rest, after),
        (['[', rest @ ..], [first, after @ ..]) => match set(rest, *first) {
            Some((found, rest)) => found && matches(rest, after),
            // Never closed: a bracket like any other character.
            None => *first == '[' && matches(rest, after),
        },
        ([literal, rest @ ..], [first, after @ ..]) => literal == first && matches(rest, after),
        ([], _) | (_, []) => false,
    }
}

/// Whether a character is in the set that begins here, and the pattern after it; none if the set has no end.
fn set(pattern: &[char], wanted: char) -> Option<(bool, &[char])> {
    let (negated, mut rest) = match pattern {
        ['^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let mut found = false;
    let mut empty = true;
    loop {
        match rest {
            [']', after @ ..] if !empty => return Some((found != negated, after)),
            [low, '-', high, after @ ..] if *high != ']' => {
                found |= (*low..=*high).contains(&wanted);
                rest = after;
            }
            [one, after @ ..] => {
                found |= *one == wanted;
                rest = after;
            }
            [] => return None,
        }
        empty = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(rules: &str, path: &str) -> bool {
        Rules::parse(rules).exclude(Path::new(path))
    }

    #[test]
    fn a_name_covers_itself_and_all_below_at_the_top_only() {
        assert!(excluded("target", "target"));
        assert!(excluded("/target/", "target/debug/x"));
        assert!(!excluded("target", "src/target"));
        assert!(!excluded("target", "targets"));
    }

    #[test]
    fn two_stars_stand_for_any_folders() {
        assert!(excluded("**/*.pyc", "a.pyc"));
        assert!(excluded("**/*.pyc", "a/b/c.pyc"));
        assert!(excluded("a/**/z", "a/z"));
        assert!(excluded("a/**/z", "a/b/c/z"));
        assert!(excluded("a/**", "a/b"));
        assert!(!excluded("a/**", "a"));
        assert!(excluded("**", "anything/at/all"));
    }

    #[test]
    fn one_star_stays_within_a_name() {
        assert!(excluded("*.log", "x.log"));
        assert!(!excluded("*.log", "logs/x.log"));
        assert!(excluded("*/temp*", "a/temporary"));
        assert!(excluded("data?", "data1/x"));
        assert!(!excluded("data?", "data"));
    }

    #[test]
    fn sets_and_escapes_are_understood() {
        assert!(excluded("v[0-9].bin", "v3.bin"));
        assert!(!excluded("v[^0-9].bin", "v3.bin"));
        assert!(excluded("\\*", "*"));
        assert!(!excluded("\\*", "a"));
        assert!(excluded("[x", "[x"));
    }

    #[test]
    fn the_last_rule_that_covers_a_path_decides() {
        let rules = "# all but one\n\n*\n!model.onnx\n!src\nsrc/secret\n";
        assert!(excluded(rules, "README.md"));
        assert!(!excluded(rules, "model.onnx"));
        assert!(!excluded(rules, "src/main.rs"));
        assert!(excluded(rules, "src/secret"));
    }

    #[test]
    fn the_dockerfile_is_always_sent() {
        assert!(!excluded("*", "Dockerfile"));
        assert!(excluded("*", "images/Dockerfile"));
    }
}
