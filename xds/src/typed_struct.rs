//! `xds.type.v3.TypedStruct` and its older twin: a message of a type that the sender need not
//! know, as JSON in a `Struct`. `envoy-types` leaves both out.
//!
//! Source: `xds/type/v3/typed_struct.proto`, `udpa/type/v1/typed_struct.proto` in cncf/xds.

use envoy_types::pb::google::protobuf::Struct;

/// The configuration in `value`, of the type that `type_url` names.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TypedStruct {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Struct>,
}

impl prost::Name for TypedStruct {
    const NAME: &'static str = "TypedStruct";
    const PACKAGE: &'static str = "xds.type.v3";

    fn type_url() -> String {
        crate::type_url::of(&Self::full_name())
    }
}

/// Full name of the older form, the same on the wire.
pub const UDPA_TYPED_STRUCT: &str = "udpa.type.v1.TypedStruct";

/// Whether a type URL names one of the two forms.
pub fn is_typed_struct(type_url: &str) -> bool {
    matches!(crate::type_url::message_name(type_url), UDPA_TYPED_STRUCT | "xds.type.v3.TypedStruct")
}
