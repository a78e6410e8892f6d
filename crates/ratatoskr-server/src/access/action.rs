//! [`Action`]: the four things a role can allow, and sets of them. None includes another.

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publish messages to a topic, which creates a missing one.
    Publish,
    /// Read a topic; work through its durable subscriptions and their dead letters.
    Subscribe,
    /// Create, change, empty and delete topics and subscriptions; move subscriptions; resolve dead letters.
    Manage,
    /// See what concerns the whole broker: its description, its metrics.
    Admin,
}

impl Action {
    /// All of them, in the order of their bits.
    pub const ALL: [Action; 4] = [Action::Publish, Action::Subscribe, Action::Manage, Action::Admin];

    /// The word for it in the policy file, in metrics and in errors.
    pub fn word(self) -> &'static str {
        match self {
            Action::Publish => "publish",
            Action::Subscribe => "subscribe",
            Action::Manage => "manage",
            Action::Admin => "admin",
        }
    }

    /// The action of a word.
    pub fn parse(word: &str) -> Option<Action> {
        Action::ALL.into_iter().find(|action| action.word() == word)
    }
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actions(u8);

impl Actions {
    pub(crate) const NONE: Actions = Actions(0);

    pub(crate) fn contains(self, action: Action) -> bool {
        self.0 & Actions::of(action).0 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Actions::NONE
    }

    pub(crate) fn and(self, others: Actions) -> Actions {
        Actions(self.0 | others.0)
    }

    pub(crate) fn without(self, action: Action) -> Actions {
        Actions(self.0 & !Actions::of(action).0)
    }

    pub(crate) fn of(action: Action) -> Actions {
        Actions(1 << action as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_action_includes_another() {
        for one in Action::ALL {
            for other in Action::ALL {
                assert_eq!(Actions::of(one).contains(other), one == other);
            }
            assert_eq!(Action::parse(one.word()), Some(one));
            let all = Action::ALL.into_iter().fold(Actions::NONE, |all, action| all.and(Actions::of(action)));
            assert!(all.contains(one) && !all.without(one).contains(one));
        }
    }
}
