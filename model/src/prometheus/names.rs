//! Which names metrics and labels may have, and how targets are asked to write those they may not.

/// Which names are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NameScheme {
    /// Letters, digits and underscores, and colons in names of metrics; no digit first.
    Legacy,
    /// Any text but an empty one.
    #[default]
    Utf8,
}

impl NameScheme {
    /// Whether a label may have this name.
    pub fn is_label_name(self, name: &str) -> bool {
        match self {
            Self::Legacy => legacy(name, false),
            Self::Utf8 => !name.is_empty(),
        }
    }

    /// Whether a metric may have this name.
    pub fn is_metric_name(self, name: &str) -> bool {
        match self {
            Self::Legacy => legacy(name, true),
            Self::Utf8 => !name.is_empty(),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "legacy" => Some(Self::Legacy),
            "utf8" => Some(Self::Utf8),
            _ => None,
        }
    }
}

fn legacy(name: &str, colons: bool) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|byte| !byte.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':'))
}

/// How a target writes names that are not of the legacy kind: the parameter `escaping` of content negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Escaping {
    /// As they are.
    #[default]
    AllowUtf8,
    /// With an underscore for each character.
    Underscores,
    /// With `_dot_` for dots and `__` for underscores.
    Dots,
    /// As `U__` and code points.
    Values,
}

impl Escaping {
    /// What the parameter is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values]
            .into_iter()
            .find(|escaping| escaping.name() == text)
    }

    /// What is asked for where nothing is said.
    pub(super) fn of(scheme: NameScheme) -> Self {
        match scheme {
            NameScheme::Legacy => Self::Underscores,
            NameScheme::Utf8 => Self::AllowUtf8,
        }
    }
}
