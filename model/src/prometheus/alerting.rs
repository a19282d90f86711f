//! The section `alerting`: where alerts go.

use std::path::Path;
use std::time::Duration;

use super::discovery::Discovery;
use super::http::HttpClient;
use super::names::NameScheme;
use super::relabel::Relabel;
use super::scrape::scheme;
use super::{element, unsupported};
use crate::yaml::Node;

/// Where alerts go.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Alerting {
    /// Rules for the labels of all alerts.
    pub alert_relabel: Vec<Relabel>,
    /// Groups of Alertmanagers.
    pub alertmanagers: Vec<Alertmanager>,
}

/// Alertmanagers that are found and spoken to alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Alertmanager {
    /// `http` or `https`.
    pub scheme: String,
    /// What goes before `/api/v2/alerts`.
    pub path_prefix: String,
    /// How long a request may take.
    pub timeout: Duration,
    /// How they are spoken to.
    pub client: HttpClient,
    /// Where they are found.
    pub discoveries: Vec<Discovery>,
    /// Rules for what was found.
    pub relabel: Vec<Relabel>,
    /// Rules for the labels of alerts sent to them.
    pub alert_relabel: Vec<Relabel>,
}

impl Alerting {
    pub(super) fn read(node: &Node<'_>, names: NameScheme) -> Self {
        let Some(mut fields) = node.fields() else { return Self::default() };
        let alerting = Self {
            alert_relabel: Relabel::read_list(&mut fields, "alert_relabel_configs", names),
            alertmanagers: fields.list("alertmanagers", |node| Alertmanager::read(&node, names)),
        };
        fields.finish();
        alerting
    }

    pub(super) fn set_directory(&mut self, dir: &Path) {
        for alertmanager in &mut self.alertmanagers {
            alertmanager.client.set_directory(dir);
            alertmanager.discoveries.iter_mut().for_each(|discovery| discovery.set_directory(dir));
        }
    }
}

impl Alertmanager {
    fn read(node: &Node<'_>, names: NameScheme) -> Option<Self> {
        let mut fields = element(node)?;
        if let Some(version) = fields.take("api_version") {
            version.parsed("`v2`", |text| (text == "v2").then_some(()));
        }
        let relabel = Relabel::read_list(&mut fields, "relabel_configs", names);
        let alertmanager = Self {
            scheme: scheme(&mut fields),
            path_prefix: fields.text("path_prefix").unwrap_or_default(),
            timeout: fields
                .duration("timeout")
                .filter(|timeout| !timeout.is_zero())
                .unwrap_or(Duration::from_secs(10)),
            client: HttpClient::read(&mut fields),
            discoveries: Discovery::read(&mut fields, !relabel.is_empty()),
            relabel,
            alert_relabel: Relabel::read_list(&mut fields, "alert_relabel_configs", names),
        };
        unsupported(&mut fields, &["sigv4"], "has no effect: requests are not signed for AWS");
        fields.finish();
        Some(alertmanager)
    }
}
