//! [`Rights`]: what a set of roles allows on which topic.
//!
//! ```text
//!   topic ──known?──▶ Standing { actions, namespace }
//!             └─ no ─▶ outside the identity's namespace: nothing · else every grant whose pattern fits
//! ```
//!
//! Callers of the same roles and namespace share one `Rights`, and with it what is known of topics. It belongs to one
//! policy: a new policy has new ones, so nothing here is ever out of date.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use ratatoskr_broker::limits::TOPIC_NAME_BYTES_MAX;

use super::action::{Action, Actions};
use super::pattern::Pattern;
use super::quota::Namespace;

/// Topics that are remembered; when there are more, all are forgotten. A name has at most 255 bytes, so this is at most 100 KB.
const TOPICS_KNOWN_MAX: usize = 256;

/// Some actions on some topics.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) actions: Actions,
    pub(super) topics: Vec<Pattern>,
}

/// What a name in the policy file stands for.
pub(super) type Role = Vec<Grant>;

/// Namespaces; of those that a topic is in, the one with the longest prefix counts.
#[derive(Debug, Default)]
pub(crate) struct Namespaces(Vec<Arc<Namespace>>);

/// What a topic is to somebody.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) actions: Actions,
    /// Whose quotas count.
    pub(crate) namespace: Option<Arc<Namespace>>,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Rights {
    roles: Vec<Arc<Role>>,
    /// Beyond it there is nothing.
    home: Option<Arc<Namespace>>,
    namespaces: Arc<Namespaces>,
    known: RwLock<HashMap<Box<str>, Standing>>,
}

impl Namespaces {
    pub(super) fn new(mut all: Vec<Arc<Namespace>>) -> Namespaces {
        all.sort_by_key(|namespace| std::cmp::Reverse(namespace.settings.prefix.len()));
        Namespaces(all)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.0.iter().find(|namespace| &*namespace.settings.name == name)
    }

    /// All, those with the longest prefixes first.
    pub(crate) fn all(&self) -> &[Arc<Namespace>] {
        &self.0
    }

    /// Where in [`Namespaces::all`] the one of a topic stands.
    pub(super) fn place_of(&self, topic: &str) -> Option<usize> {
        self.0.iter().position(|namespace| namespace.has(topic))
    }

    fn of(&self, topic: &str) -> Option<&Arc<Namespace>> {
        self.place_of(topic).map(|place| &self.0[place])
    }
}

impl Rights {
    pub(super) fn new(
        roles: Vec<Arc<Role>>,
        home: Option<Arc<Namespace>>,
        namespaces: Arc<Namespaces>,
    ) -> Rights {
        Rights { roles, home, namespaces, known: RwLock::default() }
    }

    /// What a topic is to whoever has these rights.
    pub(crate) fn on(&self, topic: &str) -> Standing {
        if topic.len() > TOPIC_NAME_BYTES_MAX {
            // No topic has such a name, and it is not to be remembered.
            return Standing { actions: Actions::NONE, namespace: None };
        }
        if let Some(known) = self.known.read().get(topic) {
            return known.clone();
        }
        let standing = Standing { actions: self.find(topic), namespace: self.namespaces.of(topic).cloned() };
        let mut known = self.known.write();
        if known.len() >= TOPICS_KNOWN_MAX {
            known.clear();
        }
        known.insert(topic.into(), standing.clone());
        standing
    }

    /// Whether anything is allowed on a topic. Remembers nothing: for lists of very many.
    pub(crate) fn sees(&self, topic: &str) -> bool {
        !self.find(topic).is_empty()
    }

    /// Whether some topic may be where the action is allowed: for calls that name no topic.
    pub(crate) fn anywhere(&self, action: Action) -> bool {
        if action == Action::Admin && self.home.is_some() {
            return false;
        }
        self.roles.iter().any(|role| role.iter().any(|grant| grant.actions.contains(action)))
    }

    fn find(&self, topic: &str) -> Actions {
        // A namespace within another one is not the outer one's.
        let is_at_home = |home: &Arc<Namespace>| {
            home.has(topic)
                && self.namespaces.of(topic).is_none_or(|inner| inner.settings.name == home.settings.name)
        };
        if !self.home.as_ref().is_none_or(is_at_home) {
            return Actions::NONE;
        }
        let mut actions = Actions::NONE;
        for grant in self.roles.iter().flat_map(|role| role.iter()) {
            if grant.topics.iter().any(|pattern| pattern.matches(topic)) {
                actions = actions.and(grant.actions);
            }
        }
        // What concerns the whole broker is asked for without a topic.
        actions.without(Action::Admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::quota::NamespaceSettings;

    fn grant(actions: &[Action], topics: &[&str]) -> Grant {
        let actions = actions.iter().fold(Actions::NONE, |all, action| all.and(Actions::of(*action)));
        Grant { actions, topics: topics.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect() }
    }

    fn namespace(name: &str, prefix: &str) -> Arc<Namespace> {
        Arc::new(Namespace::new(NamespaceSettings {
            name: name.into(),
            prefix: prefix.into(),
            topics_max: None,
            publish_messages_per_second: None,
            publish_bytes_per_second: None,
            stored_bytes_max: None,
        }))
    }

    #[test]
    fn grants_of_all_roles_add_up_and_nothing_else_is_allowed() {
        let writer = Arc::new(vec![grant(&[Action::Publish], &["orders", "log.*"])]);
        let reader = Arc::new(vec![grant(&[Action::Subscribe], &["*"])]);
        let rights = Rights::new(vec![writer, reader], None, Arc::default());
        for _ in 0..2 {
            // The second time from memory.
            assert!(rights.on("orders").actions.contains(Action::Publish));
            assert!(rights.on("log.a").actions.contains(Action::Publish));
            assert!(!rights.on("logs").actions.contains(Action::Publish));
            assert!(rights.on("logs").actions.contains(Action::Subscribe));
            assert!(!rights.on("orders").actions.contains(Action::Manage));
        }
        assert!(rights.anywhere(Action::Publish) && !rights.anywhere(Action::Manage));
    }

    #[test]
    fn whoever_lives_in_a_namespace_reaches_nothing_beyond_it() {
        let everything = Arc::new(vec![grant(&Action::ALL, &["*"])]);
        let (acme, inner) = (namespace("acme", "acme."), namespace("inner", "acme.inner."));
        let namespaces = Arc::new(Namespaces::new(vec![acme.clone(), inner]));
        let tenant = Rights::new(vec![everything.clone()], Some(acme), namespaces.clone());
        assert!(tenant.on("acme.orders").actions.contains(Action::Manage));
        assert!(tenant.on("acme2.orders").actions.is_empty());
        assert!(tenant.on("other.orders").actions.is_empty());
        assert!(tenant.on("acme.inner.orders").actions.is_empty(), "that is another tenant's");
        assert!(!tenant.anywhere(Action::Admin), "the broker is not theirs");

        let operator = Rights::new(vec![everything], None, namespaces);
        assert!(operator.anywhere(Action::Admin));
        let of =
            |topic: &str| operator.on(topic).namespace.map(|namespace| namespace.settings.name.to_string());
        assert_eq!(of("acme.orders").as_deref(), Some("acme"));
        assert_eq!(of("acme.inner.orders").as_deref(), Some("inner"));
        assert_eq!(of("other"), None);
    }

    #[test]
    fn what_is_known_of_topics_is_bounded() {
        let rights =
            Rights::new(vec![Arc::new(vec![grant(&[Action::Publish], &["a*"])])], None, Arc::default());
        for number in 0..10 * TOPICS_KNOWN_MAX {
            assert!(rights.on(&format!("a{number}")).actions.contains(Action::Publish));
            assert!(rights.known.read().len() <= TOPICS_KNOWN_MAX);
        }
    }
}
