//! From what discovery found to a target: its labels, its URL, how often (prometheus.io, "Configuration",
//! `relabel_config`).

use std::hash::Hasher;
use std::time::Duration;

use weir_model::prometheus::discovery::ADDRESS;
use weir_model::prometheus::units::{format_duration, parse_duration};
use weir_model::prometheus::{Labels, ScrapeConfig, relabel};

/// What a job scrapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Before relabelling.
    pub(super) discovered: Labels,
    /// What its samples get.
    pub(super) labels: Labels,
    /// With parameters.
    pub(super) url: String,
    /// As in `__address__`.
    pub(super) address: String,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

/// What became of something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Target(Box<Target>),
    /// Relabelling dropped it.
    Dropped(Labels),
}

const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const PATH: &str = "__metrics_path__";
const SCHEME: &str = "__scheme__";
const PARAM: &str = "__param_";

/// The target that `own` labels and those of its `group` make in `job`; an error where they make none.
pub(super) fn target(job: &ScrapeConfig, own: &Labels, group: &Labels) -> Result<Found, String> {
    let mut labels = group.clone();
    labels.extend(own.clone());
    let mut default = |name: &str, value: String| {
        if labels.get(name).is_none_or(String::is_empty) {
            labels.insert(name.to_owned(), value);
        }
    };
    default("job", job.job_name.clone());
    default(INTERVAL, format_duration(job.scrape_interval));
    default(TIMEOUT, format_duration(job.scrape_timeout));
    default(PATH, job.metrics_path.clone());
    default(SCHEME, job.scheme.clone());
    for (name, values) in &job.params {
        if let Some(first) = values.first() {
            labels.insert(format!("{PARAM}{name}"), first.clone());
        }
    }
    labels.retain(|_, value| !value.is_empty());
    let discovered = labels.clone();
    if !relabel::apply(&job.relabel, &mut labels) {
        return Ok(Found::Dropped(discovered));
    }
    let take = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let address = take(ADDRESS);
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    if address.contains('/') {
        return Err(format!("`{address}` is not a valid hostname"));
    }
    let duration = |name: &str| {
        let text = take(name);
        parse_duration(&text)
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| format!("`{text}` in `{name}` is no duration above zero"))
    };
    let (interval, timeout) = (duration(INTERVAL)?, duration(TIMEOUT)?);
    if timeout > interval {
        return Err(format!(
            "the timeout of {} is longer than the interval of {}",
            format_duration(timeout),
            format_duration(interval)
        ));
    }
    let url = url(job, &labels, &address);
    labels.retain(|name, _| !name.starts_with("__"));
    labels.entry("instance".to_owned()).or_insert_with(|| address.clone());
    Ok(Found::Target(Box::new(Target { discovered, labels, url, address, interval, timeout })))
}

fn url(job: &ScrapeConfig, labels: &Labels, address: &str) -> String {
    let take = |name: &str| labels.get(name).map_or("", String::as_str);
    let mut params: Vec<(&str, &str)> = Vec::new();
    let overridden = |name: &str| labels.get(&format!("{PARAM}{name}"));
    for (name, values) in &job.params {
        for (index, value) in values.iter().enumerate() {
            match overridden(name).filter(|_| index == 0) {
                Some(label) => params.push((name, label)),
                None => params.push((name, value)),
            }
        }
    }
    for (name, value) in labels {
        if let Some(name) = name.strip_prefix(PARAM)
            && !job.params.iter().any(|(known, values)| known == name && !values.is_empty())
        {
            params.push((name, value));
        }
    }
    params.sort_by_key(|(name, _)| *name);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(params);
    let (path, query) = (take(PATH), query.finish());
    let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
    let mark = match (query.is_empty(), path.contains('?')) {
        (true, _) => "",
        (false, true) => "&",
        (false, false) => "?",
    };
    format!("{}://{address}{slash}{path}{mark}{query}", take(SCHEME))
}

impl Target {
    /// What tells it from others of its job: targets with the same labels and URL are one.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        for (name, value) in &self.labels {
            hasher.write(name.as_bytes());
            hasher.write(&[0xff]);
            hasher.write(value.as_bytes());
            hasher.write(&[0xff]);
        }
        hasher.write(self.url.as_bytes());
        hasher.finish()
    }

    /// Where in each interval it is scraped, so that targets spread over it, and at the same place each time.
    pub(super) fn offset(&self) -> Duration {
        let interval = self.interval.as_nanos().max(1) as u64;
        // Of FNV, the low bits of similar texts are similar.
        Duration::from_nanos(self.hash().wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) % interval)
    }

    /// Host and port, of which either may be missing in the address.
    pub(super) fn host_and_port(&self) -> Option<(String, u16)> {
        let url = url::Url::parse(&self.url).ok()?;
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some((host, url.port_or_known_default()?))
    }
}

/// FNV-1a: the same in every process.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use weir_model::prometheus::Config;

    use super::*;

    fn job(rest: &str) -> ScrapeConfig {
        let (config, _) = Config::parse(&format!("scrape_configs:\n- job_name: shop\n{rest}")).unwrap();
        config.scrape_configs.into_iter().next().unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn made(job: &ScrapeConfig, own: &[(&str, &str)], group: &[(&str, &str)]) -> Target {
        match target(job, &labels(own), &labels(group)) {
            Ok(Found::Target(target)) => *target,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_target_gets_job_and_instance() {
        let target = made(&job(""), &[(ADDRESS, "a:1")], &[("env", "prod"), ("__meta_x", "y")]);
        assert_eq!(target.labels, labels(&[("env", "prod"), ("instance", "a:1"), ("job", "shop")]));
        assert_eq!(target.url, "http://a:1/metrics");
        assert_eq!(target.discovered["__meta_x"], "y");
        assert_eq!(target.discovered[INTERVAL], "1m");
    }

    #[test]
    fn relabelling_steers_address_scheme_path_parameters_and_interval() {
        let job = job(
            "  params: {module: [http_2xx, second], 'match[]': ['{a=\"b\"}']}\n  metrics_path: /probe\n  \
             relabel_configs:\n  - {source_labels: [__address__], target_label: __param_target}\n  \
             - {source_labels: [__param_target], target_label: instance}\n  \
             - {target_label: __address__, replacement: 'blackbox:9115'}\n  \
             - {target_label: __scrape_interval__, replacement: 20s}\n  \
             - {target_label: __param_module, replacement: icmp}\n  - {target_label: __scheme__, replacement: https}\n",
        );
        let target = made(&job, &[(ADDRESS, "https://example.org")], &[]);
        assert_eq!(
            target.url,
            "https://blackbox:9115/probe?match%5B%5D=%7Ba%3D%22b%22%7D&module=icmp&module=second&target=https%3A%2F%2Fexample.org"
        );
        assert_eq!(target.labels, labels(&[("instance", "https://example.org"), ("job", "shop")]));
        assert_eq!((target.interval, target.timeout), (Duration::from_secs(20), Duration::from_secs(10)));
    }

    #[test]
    fn what_is_no_target_says_why() {
        let no_address = target(&job(""), &labels(&[]), &labels(&[]));
        assert_eq!(no_address, Err("no address".to_owned()));
        let long = job("  relabel_configs: [{target_label: __scrape_timeout__, replacement: 2m}]\n");
        assert!(
            target(&long, &labels(&[(ADDRESS, "a:1")]), &labels(&[])).unwrap_err().contains("is longer than")
        );
        let dropped = job("  relabel_configs: [{source_labels: [env], regex: test, action: drop}]\n");
        let found = target(&dropped, &labels(&[(ADDRESS, "a:1"), ("env", "test")]), &labels(&[])).unwrap();
        assert!(matches!(found, Found::Dropped(labels) if labels["env"] == "test"));
    }

    #[test]
    fn targets_spread_over_their_interval() {
        let job = job("");
        let mut halves = [0; 2];
        for port in 0..200 {
            let target = made(&job, &[(ADDRESS, &format!("host:{port}"))], &[]);
            assert!(target.offset() < target.interval);
            halves[usize::from(target.offset() > target.interval / 2)] += 1;
        }
        assert!(halves.iter().all(|half| *half > 60), "{halves:?}");
    }
}
