//! Selectors: which labels are meant.

use super::objects::{LabelSelector, Labels};

/// A label selector that was found valid. All requirements must hold; without any it chooses everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    /// From an object that was found valid.
    pub fn new(selector: &LabelSelector) -> Self {
        let labels = selector
            .match_labels
            .iter()
            .map(|(key, value)| Requirement { key: key.clone(), test: Test::In(vec![value.clone()]) });
        let expressions = selector.match_expressions.iter().map(|expression| Requirement {
            key: expression.key.clone(),
            test: match expression.operator.as_str() {
                "NotIn" => Test::NotIn(expression.values.clone()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::DoesNotExist,
                _ => Test::In(expression.values.clone()),
            },
        });
        Self(labels.chain(expressions).collect())
    }

    /// Whether it asks for anything.
    pub fn chooses_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object with these labels is chosen. `NotIn` and `DoesNotExist` also choose what lacks the key.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.test {
                Test::In(values) => value.is_some_and(|v| values.contains(v)),
                Test::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
                Test::Exists => value.is_some(),
                Test::DoesNotExist => value.is_none(),
            }
        })
    }
}
