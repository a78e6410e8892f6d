//! Builds that are broken on purpose, so that the checks of durable subscriptions can be seen to fail.
//! Nothing of it is there without the feature `broken`.

/// How a broken build breaks its word, chosen by the environment variable `E2E_BROKEN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// `acks`: acks are confirmed and never written.
    Acks,
    /// `order`: keys are not kept in order.
    Order,
    /// `dead`: messages that no member could settle vanish.
    Dead,
}

impl Broken {
    /// True in a build that is broken this way.
    pub(crate) fn is_on(self) -> bool {
        if !cfg!(feature = "broken") {
            return false;
        }
        let word = match self {
            Broken::Acks => "acks",
            Broken::Order => "order",
            Broken::Dead => "dead",
        };
        std::env::var("E2E_BROKEN").is_ok_and(|chosen| chosen == word)
    }
}
