//! The one table of error codes (OCI distribution-spec, "Error Codes").

use hyper::StatusCode;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:ident, $message:literal;)+) => {
        /// A code of the registry API's error table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the code as clients see it.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// Returns the message that goes with the code.
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)+ }
            }

            /// Returns the HTTP status that goes with the code.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }
        }
    };
}

error_codes! {
    /// A blob is not in the repository.
    BlobUnknown = "BLOB_UNKNOWN", NOT_FOUND, "blob unknown to registry";
    /// An upload's session token is not ours or does not fit.
    BlobUploadInvalid = "BLOB_UPLOAD_INVALID", NOT_FOUND, "blob upload invalid";
    /// There is no such upload.
    BlobUploadUnknown = "BLOB_UPLOAD_UNKNOWN", NOT_FOUND, "blob upload unknown to registry";
    /// A chunk does not continue the upload.
    ContentRangeInvalid = "RANGE_INVALID", RANGE_NOT_SATISFIABLE, "invalid content range";
    /// The account may not do this.
    Denied = "DENIED", FORBIDDEN, "requested access to the resource is denied";
    /// A digest is malformed or does not match the content.
    DigestInvalid = "DIGEST_INVALID", BAD_REQUEST, "provided digest did not match uploaded content";
    /// A manifest names content that is not in the repository.
    ManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN", BAD_REQUEST, "blob unknown to registry";
    /// A manifest cannot be understood.
    ManifestInvalid = "MANIFEST_INVALID", BAD_REQUEST, "manifest invalid";
    /// A manifest is too large.
    ManifestTooLarge = "MANIFEST_INVALID", PAYLOAD_TOO_LARGE, "manifest invalid";
    /// A manifest belongs to an index.
    ManifestReferenced = "MANIFEST_REFERENCED", CONFLICT, "manifest is referenced by a manifest list";
    /// A manifest refers to more than is allowed.
    ManifestReferenceLimit = "MANIFEST_REFERENCE_LIMIT", BAD_REQUEST, "manifest has too many references";
    /// A manifest is larger than is allowed.
    ManifestSizeLimit = "MANIFEST_SIZE_LIMIT", BAD_REQUEST, "manifest is too large";
    /// A parameter of a query has a value of the wrong type.
    InvalidQueryParameterType = "INVALID_QUERY_PARAMETER_TYPE", BAD_REQUEST, "the value of a query parameter is of an invalid type";
    /// A parameter of a query has a value that is not allowed.
    InvalidQueryParameterValue = "INVALID_QUERY_PARAMETER_VALUE", BAD_REQUEST, "the value of a query parameter is invalid";
    /// A parameter of a body has a value that is not allowed.
    InvalidBodyParameter = "INVALID_BODY_PARAMETER", BAD_REQUEST, "a value of the request body parameter is invalid";
    /// A parameter of a body has a value of the wrong type or form.
    InvalidBodyParameterType = "INVALID_BODY_PARAMETER_TYPE", BAD_REQUEST, "a value of the request body parameter is of an invalid type";
    /// A body is no JSON.
    InvalidJsonBody = "INVALID_JSON_BODY", BAD_REQUEST, "the body of the request is an invalid JSON";
    /// The token names another project.
    MismatchProjectPathClaim = "MISMATCH_PROJECT_PATH_CLAIM", BAD_REQUEST, "the value of meta.project_path token claim is not assigned to the repository that operation is attempting to rename";
    /// The token names no project.
    UnknownProjectPathClaim = "UNKNOWN_PROJECT_PATH_CLAIM", BAD_REQUEST, "the value of meta.project_path token claim is not found";
    /// A path is taken.
    RenameConflict = "RENAME_CONFLICT", CONFLICT, "the base repository name is already taken";
    /// There are too many repositories for the operation.
    ExceedsLimits = "EXCEEDS_LIMITS", UNPROCESSABLE_ENTITY, "the base repository requested path contains too many sub-repositories for the operation to be executed";
    /// Something that another setup has.
    NotImplemented = "NOT_IMPLEMENTED", NOT_FOUND, "the feature is not available here";
    /// A manifest is not in the repository.
    ManifestUnknown = "MANIFEST_UNKNOWN", NOT_FOUND, "manifest unknown";
    /// There is no such repository.
    NameUnknown = "NAME_UNKNOWN", NOT_FOUND, "repository name not known to registry";
    /// There is no room on the server's storage.
    NoSpace = "UNKNOWN", INSUFFICIENT_STORAGE, "no space left on device";
    /// A page size is no number or too large.
    PaginationNumberInvalid = "PAGINATION_NUMBER_INVALID", BAD_REQUEST, "invalid number of results requested";
    /// A manifest has a tag that the token protects.
    ProtectedManifest = "PROTECTED_MANIFEST", UNAUTHORIZED, "manifest has a protected tag";
    /// The token protects the tag.
    ProtectedTag = "PROTECTED_TAG", UNAUTHORIZED, "tag is protected";
    /// More patterns of tags come with a token than are followed.
    TagPatternCountLimit = "TAG_PATTERN_COUNT_LIMIT_EXCEEDED", BAD_REQUEST, "tag pattern count limit exceeded";
    /// A token's pattern of protected tags is none.
    TagProtectionPatternInvalid = "TAG_PROTECTION_PATTERN_INVALID", BAD_REQUEST, "tag protection pattern is invalid";
    /// A token's pattern of immutable tags is none.
    TagImmutabilityPatternInvalid = "TAG_IMMUTABILITY_PATTERN_INVALID", BAD_REQUEST, "tag immutability pattern is invalid";
    /// The token makes the tag immutable.
    ImmutableTag = "IMMUTABLE_TAG", UNAUTHORIZED, "tag is immutable";
    /// The length of a chunk is not the one announced.
    SizeInvalid = "SIZE_INVALID", BAD_REQUEST, "provided length did not match content length";
    /// A tag is malformed.
    TagInvalid = "TAG_INVALID", BAD_REQUEST, "manifest tag did not match URI";
    /// Too many wait for the same already.
    TooManyRequests = "TOOMANYREQUESTS", TOO_MANY_REQUESTS, "too many requests";
    /// A tag is not in the repository.
    TagUnknown = "TAG_UNKNOWN", NOT_FOUND, "tag unknown to registry";
    /// More tags are asked for in one push than are taken.
    TooManyTags = "TAG_INVALID", URI_TOO_LONG, "too many tags in one request";
    /// There is no token, or it does not suffice.
    Unauthorized = "UNAUTHORIZED", UNAUTHORIZED, "authentication required";
    /// The registry is not able to serve for now.
    Unavailable = "UNAVAILABLE", SERVICE_UNAVAILABLE, "service unavailable";
    /// Something failed on the server's side; the log says what.
    Unknown = "UNKNOWN", INTERNAL_SERVER_ERROR, "unknown error";
    /// The operation is switched off.
    Unsupported = "UNSUPPORTED", METHOD_NOT_ALLOWED, "the operation is unsupported";
}
