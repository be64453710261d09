//! Log files of the node itself, named in the settings by patterns of their paths.
//!
//! ```yaml
//! files:
//! - path: /var/log/*.log
//!   exclude: [debug*]          # below the folder before the first sign
//!   labels: {team: platform}
//! ```
//!
//! Links are not followed. A file that is rotated away is read to its end under its new name, also
//! when that happened while the agent was down, as long as it is not compressed: its name must
//! then go on behind the one that the pattern means (`a.log.1`, `a.log-20261120`).
//!
//! The files may change while the agent runs. One that no pattern means any more is read to its end.
//!
//! Pure, but for the labels' function, which asks the one for all other files.

use std::path::PathBuf;
use std::sync::Arc;

use taffrail_kit::config::yaml::{Entry, Node, Place as At};
use taffrail_model::Labels;
use taffrail_model::labels::is_valid_name;
use tokio::sync::watch;

use crate::discover::{Meant, is_pattern, split};
use crate::enrich::RESERVED;
use crate::tail::{FileKind, Labeler, Labeling, LogStream, RuleKind, VolumeRule, VolumeRules};

/// The section of the settings.
pub const SECTION: &str = "files";
/// Most patterns.
const RULES_MAX: usize = 100;
/// Most labels of one pattern.
const LABELS_MAX: usize = 32;
/// Labels that a person may set although the agent gives them too.
const OVERRIDABLE: [&str; 3] = ["app", "job", "service_name"];

/// Files of the node that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The folder before the first sign of the pattern.
    pub root: PathBuf,
    /// The pattern below it.
    pub glob: String,
    /// What is left out of it, as patterns below the root.
    pub exclude: Vec<String>,
    /// Labels of their own.
    pub labels: Vec<(String, String)>,
}

impl Files {
    fn rule(&self) -> VolumeRule {
        let exclude = self.exclude.clone();
        VolumeRule { exclude, ..VolumeRule::new(&self.root, &self.glob, RuleKind::Plain) }
    }
}

/// Reads the section: a list of `{path, exclude, labels}`.
///
/// # Errors
/// Every problem, with its place.
pub fn of_settings(section: &Node) -> Result<Vec<Files>, Vec<(At, String)>> {
    let wrong = || vec![(section.at, "files must be a list of {path, exclude, labels}".to_owned())];
    let items = section.as_list().ok_or_else(wrong)?;
    if items.len() > RULES_MAX {
        return Err(vec![(section.at, format!("more than {RULES_MAX} patterns of files"))]);
    }
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for item in items {
        match of_item(item) {
            Ok(item) => files.push(item),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

fn of_item(item: &Node) -> Result<Files, (At, String)> {
    let entries =
        item.as_map().ok_or_else(|| (item.at, "expected {path, exclude, labels}".into()))?;
    let (mut path, mut exclude, mut labels) = (None, Vec::new(), Vec::new());
    for entry in entries {
        match &*entry.key {
            "path" => path = Some(&entry.node),
            "exclude" => exclude = patterns(&entry.node)?,
            "labels" => labels = own_labels(&entry.node)?,
            other => {
                let what = format!("unknown key {other:?}; expected path, exclude or labels");
                return Err((entry.at, what));
            }
        }
    }
    let path = path.ok_or_else(|| (item.at, "files need a path".to_owned()))?;
    let text = path.as_text().unwrap_or_default();
    let wrong = || (path.at, format!("{text:?} is not a pattern like /var/log/*.log"));
    let (root, glob) = split(text).ok_or_else(wrong)?;
    Ok(Files { root, glob, exclude, labels })
}

/// One pattern or a list of them.
fn patterns(node: &Node) -> Result<Vec<String>, (At, String)> {
    let one = std::slice::from_ref(node);
    let nodes = if node.as_text().is_some() { one } else { node.as_list().unwrap_or(one) };
    let pattern = |node: &Node| match node.as_text() {
        Some(text) if is_pattern(text) && !text.starts_with('/') => Ok(text.to_owned()),
        text => {
            let text = text.unwrap_or_default();
            Err((node.at, format!("{text:?} is not a pattern below the folder of the path")))
        }
    };
    if nodes.len() > RULES_MAX {
        return Err((node.at, format!("more than {RULES_MAX} patterns")));
    }
    nodes.iter().map(pattern).collect()
}

fn own_labels(node: &Node) -> Result<Vec<(String, String)>, (At, String)> {
    let entries = node.as_map();
    let entries = entries.ok_or_else(|| (node.at, "labels must be names and values".to_owned()))?;
    if entries.len() > LABELS_MAX {
        return Err((node.at, format!("more than {LABELS_MAX} labels")));
    }
    let label = |entry: &Entry| {
        let value = entry.node.as_text().unwrap_or_default();
        let ours = RESERVED.contains(&&*entry.key) && !OVERRIDABLE.contains(&&*entry.key);
        if !is_valid_name(&entry.key) || value.is_empty() {
            return Err((entry.at, format!("{:?} is not a label name with a value", entry.key)));
        }
        if ours {
            return Err((entry.at, format!("the label {:?} is the agent's to give", entry.key)));
        }
        Ok((entry.key.clone(), value.to_owned()))
    };
    entries.iter().map(label).collect()
}

/// The files of the settings, ready to be asked for.
#[derive(Debug, Default)]
pub struct Named {
    rules: Vec<VolumeRule>,
    labels: Vec<(Meant, Labels)>,
}

impl Named {
    /// What `files` name.
    #[must_use]
    pub fn new(files: &[Files]) -> Self {
        let labelled = files.iter().filter(|f| !f.labels.is_empty()).filter_map(|f| {
            let labels = f.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            Some((Meant::of(&f.rule())?, Labels::from_pairs(labels)))
        });
        Self { rules: files.iter().map(Files::rule).collect(), labels: labelled.collect() }
    }

    fn labels_of(&self, path: &str) -> Option<&Labels> {
        self.labels.iter().find(|(meant, _)| meant.means(path.as_ref())).map(|(_, own)| own)
    }
}

/// The files of the settings as they are now.
pub type Now = watch::Receiver<Arc<Named>>;

/// The rules of the moment and those of the settings.
#[must_use]
pub fn with_rules(files: Now, others: VolumeRules) -> VolumeRules {
    Arc::new(move |lanes| {
        let mut rules = others(lanes);
        rules.extend(files.borrow().rules.iter().cloned());
        rules
    })
}

/// Gives files of the node the labels of the first of `files` that means them.
#[must_use]
pub fn with_labels(files: Now, others: Labeler) -> Labeler {
    Arc::new(move |file: &FileKind, stream: LogStream| {
        let labels = others(file, stream);
        let (FileKind::Plain { path }, Labeling::Ready(labels)) = (file, &labels) else {
            return labels;
        };
        let named = files.borrow().clone();
        let Some(own) = named.labels_of(path) else { return Labeling::Ready(labels.clone()) };
        let merged: std::collections::BTreeMap<&str, &str> =
            labels.iter().chain(own.iter()).collect();
        Labeling::Ready(Labels::from_pairs(merged))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::{self, Place};
    use crate::pods::Pods;
    use taffrail_kit::config::yaml;

    fn read(text: &str) -> Result<Vec<Files>, Vec<(At, String)>> {
        of_settings(&yaml::parse(text).expect("YAML"))
    }

    fn now(files: &[Files]) -> Now {
        watch::channel(Arc::new(Named::new(files))).1
    }

    const GOOD: &str = "\
- {path: /var/log/*.log, exclude: debug*, labels: {team: a, app: sys}}
- path: /srv/**/*.txt
  exclude: [x/*, y]
";

    #[test]
    fn the_section_is_read() {
        let files = read(GOOD).expect("good");
        let texts = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!((&*files[0].glob, files[0].root.to_str()), ("*.log", Some("/var/log")));
        assert_eq!(files[0].exclude, texts(&["debug*"]));
        assert_eq!(files[0].labels.len(), 2);
        assert_eq!((&*files[1].glob, &files[1].exclude), ("**/*.txt", &texts(&["x/*", "y"])));
        assert_eq!(read(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let bad = "\
- {path: var/log/x}
- {exclude: x}
- {path: /x, labels: {a-b: c}}
- {path: /x, labels: {node: c}}
- {path: /x, exclude: ../y}
- {paths: /x}
- 5
- {path: /x, exclude: {}}
- {path: /x, labels: 3}
";
        let problems = read(bad).expect_err("bad");
        let lines: Vec<usize> = problems.iter().map(|(at, _)| at.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 8, 9], "{problems:?}");
        assert!(read("a: b").is_err());
        assert!(read(&"- {path: /x}\n".repeat(RULES_MAX + 1)).is_err());
    }

    #[test]
    fn own_labels_go_to_the_files_that_are_meant() {
        let place = Place { cluster: String::new(), node: "n".into() };
        let labeler =
            with_labels(now(&read(GOOD).expect("good")), enrich::labeler(place, Pods::none()));
        let of = |path: &str| {
            let file = FileKind::Plain { path: path.into() };
            match labeler(&file, LogStream::File) {
                Labeling::Ready(labels) => labels.to_string(),
                Labeling::Wait => panic!("nothing to wait for"),
            }
        };
        let own = r#"{app="sys", filename="/var/log/a.log", job="files", node="n", service_name="a", stream="file", team="a"}"#;
        assert_eq!(of("/var/log/a.log"), own);
        for other in ["/var/log/debug.log", "/srv/a.txt", "/var/log/x/a.log"] {
            assert!(!of(other).contains("team"), "{other}");
        }
    }

    #[test]
    fn rules_are_added_to_those_of_the_moment() {
        let files = read(GOOD).expect("good");
        let rules = with_rules(
            now(&files),
            Arc::new(|_| vec![VolumeRule::new("/v", "*", RuleKind::Plain)]),
        );
        let rules = || rules(&mut crate::tail::lane::Lanes::default());
        assert_eq!(rules().len(), 3);
        assert_eq!(rules()[1].exclude, ["debug*"]);
    }
}
