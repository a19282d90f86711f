//! `info`: the labels of info series, such as `target_info`, on the series of the same instance and job.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use weir_storage::{LabelMatcher, Labels, MatchOp};

use super::leaf::Show;
use super::{Evaluator, labels};
use crate::promql::error::Error;
use crate::promql::plan::{CallNode, Node};
use crate::promql::value::{Grid, Matrix, Row, Sample};

/// The labels by which series and info series belong together.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The newest info sample of each signature at one step: its row, and its time in seconds.
type Newest<'a> = HashMap<(&'a str, [&'a str; 2]), (usize, f64)>;

impl Evaluator<'_> {
    pub(super) fn info(&mut self, node: &CallNode, grid: Grid) -> Result<Matrix, Error> {
        let [operand, Node::Instant(selector)] = node.args.as_slice() else {
            return Err(Error::execution("info needs a vector and a label selector").at("", node.span));
        };
        let base = self.vector(operand, grid)?;
        let mut infos = self.instant(selector, Show::Time, grid)?;
        infos.retain(|row| identity(&row.labels) != [""; 2]);
        let (names, wanted): (Vec<_>, Vec<_>) = node.matchers.iter().partition(|m| m.name == "__name__");
        let enriching = Enriching { infos: &infos, metrics: metrics(&infos), names, wanted };
        let mut out = Rows { rows: Vec::new(), index: HashMap::new(), steps: grid.len() };
        let mut known: HashMap<(usize, Vec<usize>), Option<usize>> = HashMap::new();
        for step in 0..grid.len() {
            self.check()?;
            let newest = enriching.newest(step).map_err(|error| error.at("", node.span))?;
            for (at, row) in base.iter().enumerate().filter(|(_, row)| row.cells[step].is_present()) {
                // Result labels are found once per series and the info series that it meets, not per step.
                let target = match known.entry((at, enriching.partners(row, &newest))) {
                    Entry::Occupied(found) => *found.get(),
                    Entry::Vacant(place) => {
                        let labels = enriching.labels(row, &place.key().1)?;
                        *place.insert(labels.map(|labels| out.row(labels, row.drop_name)))
                    }
                };
                if let Some(target) = target {
                    out.set(target, step, &row.cells[step])?;
                }
            }
        }
        self.charge(out.rows.len() * grid.len())?;
        Ok(out.rows)
    }
}

/// Whether a matcher says what is wanted rather than what is not.
pub(in crate::promql) fn affirms(matcher: &LabelMatcher) -> bool {
    matches!(matcher.op, MatchOp::Equal | MatchOp::Regex)
}

fn identity(labels: &Labels) -> [&str; 2] {
    IDENTIFYING.map(|name| labels.get(name).unwrap_or_default())
}

/// The metric names of info series, each once.
fn metrics(infos: &Matrix) -> Vec<&str> {
    let mut names: Vec<&str> = infos.iter().map(|row| row.labels.metric()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

struct Enriching<'a> {
    infos: &'a Matrix,
    metrics: Vec<&'a str>,
    /// The conditions on the names of info series.
    names: Vec<&'a LabelMatcher>,
    /// Those on their other labels: without any, all labels are taken.
    wanted: Vec<&'a LabelMatcher>,
}

impl<'a> Enriching<'a> {
    fn newest(&self, step: usize) -> Result<Newest<'a>, Error> {
        let mut newest = Newest::new();
        for (at, row) in self.infos.iter().enumerate() {
            let Some(time) = row.cells[step].float() else { continue };
            match newest.entry((row.labels.metric(), identity(&row.labels))) {
                Entry::Vacant(place) => {
                    place.insert((at, time));
                }
                Entry::Occupied(mut place) if place.get().1 < time => {
                    place.insert((at, time));
                }
                Entry::Occupied(place) if place.get().1 == time => {
                    let message = format!(
                        "found duplicate series for info metric: existing {} @ {ms:.0}, new {} @ {ms:.0}",
                        labels::show_set(&self.infos[place.get().0].labels),
                        labels::show_set(&row.labels),
                        ms = time * 1000.0,
                    );
                    return Err(Error::execution(message));
                }
                Entry::Occupied(_) => {}
            }
        }
        Ok(newest)
    }

    /// The info series that belong to `row`: one per metric at most, none where it is an info series itself.
    fn partners(&self, row: &Row, newest: &Newest<'_>) -> Vec<usize> {
        if self.is_info(row) {
            return Vec::new();
        }
        let identity = identity(&row.labels);
        let found = self.metrics.iter().filter_map(|metric| newest.get(&(*metric, identity)));
        found.map(|(at, _)| *at).collect()
    }

    fn is_info(&self, row: &Row) -> bool {
        self.names.iter().any(|matcher| affirms(matcher))
            && self.names.iter().all(|matcher| matcher.matches(row.labels.metric()))
    }

    /// The labels of `row` and those of `partners` that it does not have; none where labels are asked for
    /// that nobody has.
    fn labels(&self, row: &Row, partners: &[usize]) -> Result<Option<Labels>, Error> {
        let missing = partners.is_empty() && self.wanted.iter().any(|matcher| !matcher.matches(""));
        if missing && !self.is_info(row) {
            return Ok(None);
        }
        let mut added: HashMap<&str, &str> = HashMap::new();
        for (name, value) in partners.iter().flat_map(|at| self.infos[*at].labels.iter()) {
            let wanted = self.wanted.is_empty() || self.wanted.iter().any(|matcher| matcher.name == name);
            if name == "__name__" || !wanted {
                continue;
            }
            if added.get(name).is_some_and(|other| *other != value) {
                return Err(Error::execution(format!("conflicting label: {name}")));
            }
            if row.labels.get(name).is_none() {
                added.insert(name, value);
            }
        }
        Ok(Some(Labels::new(row.labels.iter().chain(added))))
    }
}

/// Result rows by their labels.
struct Rows {
    rows: Matrix,
    index: HashMap<Labels, usize>,
    steps: usize,
}

impl Rows {
    fn row(&mut self, labels: Labels, drop_name: bool) -> usize {
        let next = self.rows.len();
        let at = *self.index.entry(labels.clone()).or_insert(next);
        if at == next {
            self.rows.push(Row { labels, drop_name, cells: vec![Sample::Absent; self.steps] });
        }
        at
    }

    fn set(&mut self, at: usize, step: usize, sample: &Sample) -> Result<(), Error> {
        let cell = &mut self.rows[at].cells[step];
        if cell.is_present() {
            return Err(Error::execution("vector cannot contain metrics with the same labelset"));
        }
        *cell = sample.clone();
        Ok(())
    }
}
