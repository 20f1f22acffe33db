//! Globs that a project writes on paths and on branches.

use globset::{GlobBuilder, GlobMatcher};
use schemars::JsonSchema;
use serde::Deserialize;

/// A glob on paths of files: `*` stays within one folder, `**` crosses them. Case counts, as it does in git.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct PathPattern(Pattern);

impl PathPattern {
    /// Whether the path, as git writes it, matches.
    pub fn matches(&self, path: &str) -> bool {
        self.0.matcher.is_match(path)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }
}

impl TryFrom<String> for PathPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // These never match a path of git's, and each of them looks as if it did.
        if text.starts_with('/') || text.starts_with("./") || text.split('/').any(|part| part == "..") {
            return Err(format!(
                "`{text}` matches nothing, expected a path from the top of the repository such as web/**"
            ));
        }
        if text.ends_with('/') {
            return Err(format!("`{text}` matches nothing, expected {text}** for all files below"));
        }
        Pattern::new(text, true).map(Self)
    }
}

/// A glob on branches: `*` matches any characters, slashes too, as in GitLab's own protected branches. Case counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct BranchPattern(Pattern);

impl BranchPattern {
    /// Whether the branch matches.
    pub fn matches(&self, branch: &str) -> bool {
        self.0.matcher.is_match(branch)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }
}

impl TryFrom<String> for BranchPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Pattern::new(text, false).map(Self)
    }
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

impl Pattern {
    fn new(text: String, literal_separator: bool) -> Result<Self, String> {
        if text.is_empty() {
            return Err(String::from("an empty glob matches nothing, expected at least one character"));
        }
        match GlobBuilder::new(&text).literal_separator(literal_separator).build() {
            Ok(glob) => Ok(Self { matcher: glob.compile_matcher(), text }),
            Err(error) => Err(format!("`{text}` is no glob, {}", error.kind())),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_path_a_star_stays_within_a_folder_and_two_cross_them() {
        for (glob, path, matches) in [
            ("web/**", "web/index.html", true),
            ("web/**", "web/a/b.js", true),
            ("web/**", "web", false),
            ("web/**", "website/a", false),
            ("web/*", "web/a/b.js", false),
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "docs/a/README.md", true),
            ("**/*.md", "README.md", true),
            ("{web,api}/**", "api/x", true),
            ("web/**", "web/.env", true),
            ("web/**", "Web/index.html", false),
        ] {
            let pattern = PathPattern::try_from(glob.to_owned()).unwrap();
            assert_eq!(pattern.matches(path), matches, "{glob} on {path}");
        }
    }

    #[test]
    fn in_a_branch_a_star_crosses_slashes_as_in_gitlab() {
        for (glob, branch, matches) in [
            ("*", "main", true),
            ("*", "release/1.0", true),
            ("release/*", "release/1.0", true),
            ("release/*", "release/1.0/hotfix", true),
            ("release/*", "release", false),
            ("*-stable", "17-5-stable", true),
            ("main", "Main", false),
        ] {
            let pattern = BranchPattern::try_from(glob.to_owned()).unwrap();
            assert_eq!(pattern.matches(branch), matches, "{glob} on {branch}");
        }
    }

    #[test]
    fn what_could_never_match_is_refused() {
        for glob in ["", "/web/**", "./web/**", "web/", "../web/**", "web/[a", "{a"] {
            assert!(PathPattern::try_from(glob.to_owned()).is_err(), "{glob}");
        }
        for glob in ["", "release/[", "{a"] {
            assert!(BranchPattern::try_from(glob.to_owned()).is_err(), "{glob}");
        }
    }
}
