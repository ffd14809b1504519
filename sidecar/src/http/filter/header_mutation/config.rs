//! `envoy.extensions.filters.http.header_mutation.v3.HeaderMutation` → [`HeaderMutationFilter`] and a route's
//! [`Mutations`].

use envoy_types::pb::envoy::config::common::mutation_rules::v3 as rules;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3 as pb;
use http::header::HeaderName;

use super::{HeaderMutationFilter, Mutation, Mutations};
use crate::config::{ConfigError, Within, each};
use crate::matcher::config as matchers;
use crate::route::config::add_header;

/// Compiles the filter.
///
/// # Errors
/// A header that is none, or a mutation that is not supported.
pub fn filter(name: &str, config: &pb::HeaderMutation) -> Result<HeaderMutationFilter, ConfigError> {
    let mutations = mutations(config.mutations.as_ref()).within("mutations")?;
    let needs_request = mutations.response.iter().any(|m| matches!(m, Mutation::Add(_)));
    Ok(HeaderMutationFilter { name: name.to_owned(), mutations, needs_request })
}

/// Compiles a route's mutations.
///
/// # Errors
/// As [`filter`].
pub fn route(config: &pb::HeaderMutationPerRoute) -> Result<Mutations, ConfigError> {
    mutations(config.mutations.as_ref()).within("mutations")
}

fn mutations(config: Option<&pb::Mutations>) -> Result<Mutations, ConfigError> {
    let Some(config) = config else { return Ok(Mutations::default()) };
    if !config.query_parameter_mutations.is_empty() {
        return Err(ConfigError::at("query_parameter_mutations", "is not supported yet"));
    }
    Ok(Mutations {
        request: each("request_mutations", &config.request_mutations, mutation)?,
        response: each("response_mutations", &config.response_mutations, mutation)?,
    })
}

fn mutation(config: &rules::HeaderMutation) -> Result<Mutation, ConfigError> {
    use rules::header_mutation::Action;
    match &config.action {
        Some(Action::Remove(name)) => HeaderName::try_from(name.as_str())
            .map(Mutation::Remove)
            .map_err(|_| ConfigError::at("remove", format!("'{name}' is no header name"))),
        Some(Action::Append(option)) => add_header(option).map(Mutation::Add).within("append"),
        Some(Action::RemoveOnMatch(on)) => {
            let matcher = on.key_matcher.as_ref();
            let matcher = matcher.ok_or_else(|| ConfigError::at("remove_on_match.key_matcher", "value is required"))?;
            matchers::string(matcher).map(Mutation::RemoveMatching).within("remove_on_match.key_matcher")
        }
        None => Err(ConfigError::new("one of remove, append is required")),
    }
}
