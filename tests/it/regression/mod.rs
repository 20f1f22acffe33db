//! What once went wrong, each as a conversation.

mod calls;
mod deploys;
mod environments;
mod lifetimes;
