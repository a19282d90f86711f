//! Where Alertmanagers are: found as targets are, for whoever has alerts to send.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weir_model::limits;
use weir_model::prometheus::discovery::ADDRESS;
use weir_model::prometheus::{Alertmanager, Config, Group, Labels, relabel};

use super::discovery::{self, Names, Publish};

/// The URLs that alerts are posted to, for each entry of `alertmanagers` in the order of the configuration.
pub type Alertmanagers = Arc<Vec<Vec<String>>>;

const PATH: &str = "__alerts_path__";
const SCHEME: &str = "__scheme__";

/// Finds Alertmanagers until `stop`, and says which there are whenever that changes. Those of an entry that a new
/// configuration has as well stay until they are found anew.
pub(super) async fn run(
    mut config: watch::Receiver<Arc<Config>>,
    names: Names,
    found: watch::Sender<Alertmanagers>,
    stop: CancellationToken,
) {
    let mut before: Vec<Alertmanager> = Vec::new();
    loop {
        let entries = config.borrow_and_update().alerting.alertmanagers.clone();
        found.send_if_modified(|found| {
            let kept = |entry| before.iter().position(|other| other == entry).map(|at| found[at].clone());
            let kept: Vec<Vec<String>> =
                entries.iter().map(|entry| kept(entry).unwrap_or_default()).collect();
            let changed = **found != kept;
            *found = Arc::new(kept);
            changed
        });
        before.clone_from(&entries);
        tokio::select! {
            () = follow(&entries, &names, &found) => {}
            changed = config.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Follows the discovery of all entries, without end.
async fn follow(entries: &[Alertmanager], names: &Names, found: &watch::Sender<Alertmanagers>) {
    let (updates_in, mut updates) = mpsc::channel(limits::DISCOVERY_QUEUE);
    let mut finding = JoinSet::new();
    // The entry that each discovery belongs to.
    let mut owners = Vec::new();
    for (entry, alertmanager) in entries.iter().enumerate() {
        for discovery in &alertmanager.discoveries {
            let publish = Publish::new(owners.len(), updates_in.clone());
            finding.spawn(discovery::run(discovery.clone(), names.clone(), publish));
            owners.push(entry);
        }
    }
    let mut groups: BTreeMap<usize, Vec<Group>> = BTreeMap::new();
    while let Some(update) = updates.recv().await {
        let Some(entry) = owners.get(update.entry).copied() else { continue };
        groups.insert(update.entry, update.groups);
        let own = || owners.iter().enumerate().filter(|(_, owner)| **owner == entry).map(|(at, _)| at);
        let mut urls: Vec<String> = Vec::new();
        for group in own().filter_map(|discovery| groups.get(&discovery)).flatten() {
            urls.extend(group.targets.iter().filter_map(|own| url(&entries[entry], own, &group.labels)));
        }
        if own().any(|discovery| !groups.contains_key(&discovery)) {
            urls.extend(found.borrow()[entry].iter().cloned()); // one that has not looked yet may find them
        }
        urls.sort();
        urls.dedup();
        urls.truncate(limits::SCRAPE_TARGETS);
        found.send_if_modified(|found| {
            let changed = found[entry] != urls;
            Arc::make_mut(found)[entry] = urls;
            changed
        });
    }
}

/// Where what was found takes alerts; none where relabelling dropped it.
fn url(entry: &Alertmanager, own: &Labels, group: &Labels) -> Option<String> {
    let mut labels = group.clone();
    labels.extend(own.clone());
    labels.insert(SCHEME.to_owned(), entry.scheme.clone());
    let prefix = entry.path_prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    labels.insert(PATH.to_owned(), format!("{slash}{prefix}/api/v2/alerts"));
    if !relabel::apply(&entry.relabel, &mut labels) {
        return None;
    }
    let take = |name: &str| labels.get(name).map_or("", String::as_str);
    let address = take(ADDRESS);
    if address.is_empty() || address.contains('/') {
        tracing::error!(address, "no address of an Alertmanager");
        return None;
    }
    Some(format!("{}://{address}{}", take(SCHEME), take(PATH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alertmanagers_are_found_and_found_again() {
        let parse = |text: &str| Arc::new(Config::parse(text).unwrap().0);
        let first = parse(
            "alerting: {alertmanagers: [{path_prefix: /am/, scheme: https, static_configs: [{targets: [a:1, b:2]}], \
             relabel_configs: [{source_labels: [__address__], regex: 'b:.*', action: drop}]}, \
             {static_configs: [{targets: [c:3]}]}]}\n",
        );
        let (config_in, config) = watch::channel(first);
        let (found_in, mut found) = watch::channel(Alertmanagers::default());
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(config, Names::default(), found_in, stop.clone()));
        let expected = vec![
            vec!["https://a:1/am/api/v2/alerts".to_owned()],
            vec!["http://c:3/api/v2/alerts".to_owned()],
        ];
        found.wait_for(|found| **found == expected).await.unwrap();
        // Of an entry that stays they are there all the time.
        let second = parse(
            "alerting: {alertmanagers: [{static_configs: [{targets: [c:3]}]}, {static_configs: [{targets: [e:5]}]}]}\n",
        );
        found.mark_unchanged();
        config_in.send_replace(second);
        loop {
            found.changed().await.unwrap();
            let now = found.borrow_and_update().clone();
            assert_eq!(now[0], ["http://c:3/api/v2/alerts"]);
            if now[1] == ["http://e:5/api/v2/alerts"] {
                break;
            }
        }
        config_in.send_replace(parse("alerting: {alertmanagers: [{static_configs: [{targets: [d:4]}]}]}\n"));
        found.wait_for(|found| **found == [["http://d:4/api/v2/alerts"]]).await.unwrap();
        stop.cancel();
        running.await.unwrap();
    }
}
