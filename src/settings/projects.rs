//! Which project paths are served.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Globs on project paths; without any, every project is served.
#[derive(Debug, Clone, Default)]
pub struct ProjectFilter {
    globs: Option<GlobSet>,
    named: Vec<String>,
    wildcards: bool,
}

impl ProjectFilter {
    /// Compiles the globs. `*` stays within one level, `**` crosses levels. GitLab's paths know no case.
    pub fn new(globs: &[String]) -> Result<Self, String> {
        if globs.is_empty() {
            return Ok(Self::default());
        }
        let mut set = GlobSetBuilder::new();
        for text in globs {
            let glob = GlobBuilder::new(text)
                .literal_separator(true)
                .case_insensitive(true)
                .build()
                .map_err(|error| format!("has a glob that cannot be read ({})", error.kind()))?;
            set.add(glob);
        }
        let (wild, named): (Vec<_>, Vec<_>) =
            globs.iter().cloned().partition(|text| text.contains(['*', '?', '[', '{']));
        let globs = Some(set.build().map_err(|error| error.to_string())?);
        Ok(Self { globs, named, wildcards: !wild.is_empty() })
    }

    /// Whether the project with this path is served.
    pub fn serves(&self, path: &str) -> bool {
        self.globs.as_ref().is_none_or(|globs| globs.is_match(path))
    }

    /// Whether there are globs with wildcards, which may match projects that nobody named.
    pub const fn has_wildcards(&self) -> bool {
        self.wildcards
    }

    /// The paths that are named without a wildcard.
    pub fn named(&self) -> &[String] {
        &self.named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_group_and_two_cross_them() {
        let filter = ProjectFilter::new(&["acme/*".into(), "Tools/**".into(), "solo/app".into()]).unwrap();
        for (path, served) in [
            ("acme/web", true),
            ("ACME/Web", true),
            ("acme/sub/web", false),
            ("tools/a/b", true),
            ("solo/app", true),
            ("solo/app2", false),
        ] {
            assert_eq!(filter.serves(path), served, "{path}");
        }
        assert_eq!(filter.named(), ["solo/app"]);
    }
}
