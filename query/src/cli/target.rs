//! Whose lines are meant: the flags that several commands share, as LogQL.

use taffrail_model::Level;

use super::Error;
use super::selector::{self, LogqlMatcher, braced, by_name, quoted};

/// Pods, found as kubectl finds them.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Target {
    /// Pods, separated by commas; * stands for any text.
    #[arg(value_name = "POD", conflicts_with = "pod")]
    name: Option<String>,
    /// Labels of the pods, as in kubectl: app=web,tier in (a,b),!canary.
    #[arg(short = 'l', long = "selector", value_name = "SELECTOR")]
    selector: Option<String>,
    /// Namespaces, separated by commas; * stands for any text.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The same as POD.
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// Only lines of this severity or a worse one: debug, info, warn, error, …
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
}

impl Target {
    fn matchers(&self, container: Option<&str>) -> Result<Vec<LogqlMatcher>, Error> {
        let names = [
            ("namespace", self.namespace.as_deref()),
            ("pod", self.pod.as_deref().or(self.name.as_deref())),
            ("container", container),
        ];
        let named =
            names.into_iter().filter_map(|(label, name)| name.map(|name| by_name(label, name)));
        let mut matchers: Vec<LogqlMatcher> = named.collect();
        matchers.extend(selector::parse(self.selector.as_deref().unwrap_or_default())?);
        Ok(matchers)
    }

    /// The log query of these pods, with line filters between selector and level.
    pub(super) fn logql(&self, container: Option<&str>, filters: &str) -> Result<String, Error> {
        let mut query = braced(&self.matchers(container)?);
        query.push_str(filters);
        if let Some(word) = &self.level {
            query.push_str(" | detected_level =~ ");
            query.push_str(&quoted(&at_least(word)?));
        }
        Ok(query)
    }
}

/// The names of a level and of all that are worse, as an expression.
pub(super) fn at_least(word: &str) -> Result<String, Error> {
    let level = Level::from_word(word).ok_or_else(|| Error::Argument {
        flag: "--level",
        reason: format!(
            "expected trace, debug, info, warn, error, critical or fatal, found {word:?}"
        ),
    })?;
    let names = Level::ALL.into_iter().filter(|other| *other >= level).map(Level::name);
    Ok(names.collect::<Vec<_>>().join("|"))
}
