//! `[retention]`, `[retention.TABLE]`, `[tenants.NAME.retention]` and `[tenants.NAME.retention.TABLE]`.

use std::collections::BTreeSet;
use std::time::Duration;

use weir_model::TenantId;
use weir_storage::{Keep, Retention, Table};

use super::{Take, units};

impl Take<'_> {
    /// Everything that is said of how long rows are kept.
    pub(super) fn retention(&mut self) -> Retention {
        let mut retention = Retention::default();
        let sections: BTreeSet<String> =
            self.written.keys().filter_map(|path| section(path)).map(str::to_owned).collect();
        for section in sections {
            let subject = self.subject(&section);
            let age =
                self.value(&format!("{section}.age"), "days, as in `30d`, or `forever`", None, |text| {
                    if text == "forever" { Some(Some(Duration::MAX)) } else { units::days(text).map(Some) }
                });
            let expected = "a size, as in `100GiB`, or `unbounded`";
            let bytes = self.value(&format!("{section}.size"), expected, None, |text| {
                if text == "unbounded" {
                    Some(Some(u64::MAX))
                } else {
                    units::bytes(text).map(|size| Some(size as u64))
                }
            });
            let Some((tenant, table)) = subject else { continue };
            if (age, bytes) != (None, None) {
                retention.set(tenant, table, Keep { age, bytes });
            }
        }
        retention
    }

    /// Whose and which rows a section is about; nothing where it is no section.
    fn subject(&mut self, section: &str) -> Option<(Option<TenantId>, Option<Table>)> {
        let (tenant, rest) = match section.strip_prefix("tenants.") {
            Some(rest) => {
                let (name, rest) = rest.split_once(".retention")?;
                (Some(self.tenant(section, name)?), rest)
            }
            None => (None, section.strip_prefix("retention")?),
        };
        let Some(name) = rest.strip_prefix('.') else { return rest.is_empty().then_some((tenant, None)) };
        let table = Table::ALL.into_iter().find(|table| table.name() == name);
        match table {
            None => self.mistake(section, format!("there is no table `{name}`; there are {}", names())),
            Some(Table::Series) => {
                self.mistake(section, "labels are kept as long as what they name".to_owned())
            }
            Some(_) => return Some((tenant, table)),
        }
        None
    }
}

/// The section of a key that is one of retention's.
fn section(path: &str) -> Option<&str> {
    let (section, _) = path.rsplit_once('.').filter(|(_, key)| ["age", "size"].contains(key))?;
    let own = section
        .strip_prefix("tenants.")
        .map_or(section, |rest| rest.split_once('.').map_or("", |(_, own)| own));
    (own == "retention" || own.starts_with("retention.")).then_some(section)
}

fn names() -> String {
    Table::ALL.map(|table| format!("`{}`", table.name())).join(", ")
}
