//! Params: what the job's file says about this module.
//!
//! Invariant: a name that the operator mistyped is told back to them, never taken for a default.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

/// The job's parameters and the names of its outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    values: BTreeMap<String, String>,
    outputs: Vec<String>,
}

/// One of the job's outputs: where a record goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputId(pub(crate) u32);

impl OutputId {
    /// The first output: the only one on a topic's ingress and on a fetch.
    pub const FIRST: Self = Self(0);

    /// Place in the job's list of outputs, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Params {
    /// From name-value pairs and the names of the outputs, in the job's order.
    pub fn new(
        values: impl IntoIterator<Item = (String, String)>,
        outputs: impl IntoIterator<Item = String>,
    ) -> Self {
        Self { values: values.into_iter().collect(), outputs: outputs.into_iter().collect() }
    }

    /// A parameter's value, if the job gives one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// A parameter's value.
    ///
    /// # Errors
    /// If the job does not give one.
    pub fn require(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("parameter `{name}` is missing"))
    }

    /// A parameter's value as a `T`, if the job gives one.
    ///
    /// # Errors
    /// If the value is not a `T`.
    pub fn parse<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, String> {
        let parsed = self.get(name).map(|text| {
            text.parse().map_err(|error| format!("parameter `{name}` = `{text}`: {error}"))
        });
        parsed.transpose()
    }

    /// A comma-separated parameter as its trimmed, non-empty parts; none if the job does not give it.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let parts = self.get(name).unwrap_or_default().split(',');
        parts.map(str::trim).filter(|part| !part.is_empty()).collect()
    }

    /// Refuses every parameter that is not in `known`: a mistyped name then fails the deployment
    /// instead of being ignored.
    ///
    /// # Errors
    /// Names the first unknown parameter and the known ones.
    pub fn allow_only(&self, known: &[&str]) -> Result<(), String> {
        match self.values.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                Err(format!("unknown parameter `{name}`: this module knows {}", known.join(", ")))
            }
            None => Ok(()),
        }
    }

    /// The names of the outputs, in the job's order.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// The output of that name.
    ///
    /// # Errors
    /// If the job has no such output.
    pub fn output(&self, name: &str) -> Result<OutputId, String> {
        let place = self.outputs.iter().position(|output| output == name);
        place.and_then(|place| u32::try_from(place).ok()).map(OutputId).ok_or_else(|| {
            format!("the job has no output `{name}`: it has {}", self.outputs.join(", "))
        })
    }

    /// The output at that place in the job's list, from 0.
    ///
    /// # Errors
    /// If the job has fewer outputs.
    pub fn output_at(&self, place: u32) -> Result<OutputId, String> {
        let count = self.outputs.len();
        if (place as usize) < count {
            Ok(OutputId(place))
        } else {
            Err(format!("the job has {count} outputs, this module needs at least {}", place + 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> Params {
        let values = [("max", "5"), ("names", " a, b ,,c")];
        Params::new(
            values.map(|(name, value)| (name.to_owned(), value.to_owned())),
            ["late".to_owned(), "rest".to_owned()],
        )
    }

    #[test]
    fn values_are_read_by_name_and_type() {
        assert_eq!(params().parse("max"), Ok(Some(5_u32)));
        assert_eq!(params().parse::<u32>("min"), Ok(None));
        assert_eq!(params().list("names"), ["a", "b", "c"]);
    }

    #[test]
    fn a_wrong_value_names_the_parameter() {
        let error = params().parse::<u32>("names").expect_err("not a number");
        assert!(error.contains("`names`"), "{error}");
        assert_eq!(params().require("min"), Err("parameter `min` is missing".to_owned()));
    }

    #[test]
    fn a_mistyped_parameter_is_refused() {
        assert_eq!(params().allow_only(&["max", "names"]), Ok(()));
        let error = params().allow_only(&["max"]).expect_err("names is unknown");
        assert!(error.contains("`names`"), "{error}");
    }

    #[test]
    fn outputs_are_found_by_name_and_place() {
        assert_eq!(params().output("rest"), Ok(OutputId(1)));
        assert!(params().output("none").is_err());
        assert_eq!(params().output_at(0), Ok(OutputId::FIRST));
        assert!(params().output_at(2).is_err());
    }
}
