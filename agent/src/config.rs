//! Settings of the agent.
