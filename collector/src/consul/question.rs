//! The parameters of a read, as Consul understands them.

use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;
use weir_model::limits;

use super::duration;
use super::refused::Refused;

/// The only data centre: Consul's own default.
pub(super) const DATACENTER: &str = "dc1";

/// What is asked for beside the path. `?near` is taken and changes nothing: all instances are on one node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    /// The index of the last answer; 0 waits for nothing.
    pub(super) index: u64,
    /// How long to wait for another.
    pub(super) wait: Duration,
    /// Only instances whose checks all pass.
    pub(super) passing: bool,
    /// Tags that an instance has all of, whatever their case.
    pub(super) tags: Vec<String>,
    /// Whether metadata of nodes is asked for, of which there is none.
    pub(super) node_meta: bool,
}

impl Question {
    /// The parameters of `uri`.
    pub(super) fn of(uri: &Uri) -> Result<Self, Refused> {
        let mut question =
            Self { index: 0, wait: limits::AGENT_WAIT, passing: false, tags: Vec::new(), node_meta: false };
        let invalid = |what: &str| Err(Refused::Invalid(what.to_owned()));
        let (mut stale, mut consistent) = (false, false);
        for (name, value) in pairs(uri) {
            match (name.as_str(), value.as_str()) {
                ("index" | "wait", "") => {}
                ("index", value) => match u64::from_str(value) {
                    Ok(index) => question.index = index,
                    Err(_) => return invalid("Invalid index"),
                },
                ("wait", value) => match duration::parse(value) {
                    // As Consul: nothing is the default, and too much is the most.
                    Some(Duration::ZERO) => {}
                    Some(wait) => question.wait = wait.min(limits::AGENT_WAIT_MOST),
                    None => return invalid("Invalid wait time"),
                },
                ("passing", value) => match truth(value) {
                    Some(passing) => question.passing = passing,
                    None => return invalid("Invalid value for ?passing"),
                },
                ("tag", tag) => question.tags.push(tag.to_lowercase()),
                ("node-meta", _) => question.node_meta = true,
                ("stale", _) => stale = true,
                ("consistent", _) => consistent = true,
                ("dc", "" | DATACENTER) => {}
                ("dc", _) => return Err(Refused::NoSuchDatacenter),
                // An answer that passes over them would have what was not asked for.
                ("filter" | "ns" | "partition" | "peer" | "sg", value) if !value.is_empty() => {
                    return Err(Refused::Invalid(format!(
                        "Invalid query parameter: {name:?} is not supported"
                    )));
                }
                _ => {}
            }
        }
        if stale && consistent {
            return invalid("Cannot specify both ?stale and ?consistent");
        }
        Ok(question)
    }
}

/// The value of the parameter `name`, the first where there are several.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    pairs(uri).find(|(found, _)| found == name).map(|(_, value)| value)
}

/// Whether the parameter `name` is there and not false.
pub(super) fn flag(uri: &Uri, name: &str) -> bool {
    parameter(uri, name).is_some_and(|value| truth(&value).unwrap_or(true))
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    let query = uri.query().unwrap_or_default().as_bytes();
    url::form_urlencoded::parse(query).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

/// As Go's `strconv.ParseBool`; a parameter without a value is set.
fn truth(value: &str) -> Option<bool> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(query: &str) -> Result<Question, Refused> {
        Question::of(&format!("/v1/health/service/a?{query}").parse().unwrap())
    }

    #[test]
    fn parameters_mean_what_they_mean_in_consul() {
        let asked = question("index=7&wait=120000ms&passing&tag=V1&tag=b&near=_agent&stale=&dc=dc1").unwrap();
        let expected = Question {
            index: 7,
            wait: Duration::from_secs(120),
            passing: true,
            tags: vec!["v1".into(), "b".into()],
            node_meta: false,
        };
        assert_eq!(asked, expected);
        let plain = question("passing=false&wait=&index=").unwrap();
        assert_eq!((plain.index, plain.wait, plain.passing), (0, limits::AGENT_WAIT, false));
        assert_eq!(question("wait=3h").unwrap().wait, limits::AGENT_WAIT_MOST);
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        for (query, said) in [
            ("index=x", "Invalid index"),
            ("index=-1", "Invalid index"),
            ("wait=10", "Invalid wait time"),
            ("passing=maybe", "Invalid value for ?passing"),
            ("dc=elsewhere", "No path to datacenter"),
            ("stale&consistent", "Cannot specify both ?stale and ?consistent"),
            ("filter=Node.Meta.a==b", "Invalid query parameter: \"filter\" is not supported"),
        ] {
            assert_eq!(question(query).unwrap_err().to_string(), said, "{query}");
        }
    }
}
