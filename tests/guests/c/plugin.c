// Owns the guest fixture in C: the same little plugin as ../js/plugin.js and ../rust/src/lib.rs, on
// the bindings in gen/. For the model `digits`: comma-separated numbers in, the likeliest digit out.
// It never prints and never allocates more than the body asks for.

#include <stdlib.h>
#include <string.h>

#include "gen/processor.h"

// No number needs more bytes than this; a longer token is refused and shown cut to this length.
#define TOKEN_LIMIT 40
// A count of values needs at most ten decimal digits.
#define COUNT_LIMIT 10

typedef struct {
  const uint8_t *bytes;
  size_t length;
} slice_t;

static bool is_space(uint8_t byte) { return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n'; }

static bool is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

static slice_t trim(slice_t text) {
  while (text.length > 0 && is_space(text.bytes[0])) text = (slice_t){text.bytes + 1, text.length - 1};
  while (text.length > 0 && is_space(text.bytes[text.length - 1])) text.length -= 1;
  return text;
}

// Cuts the token up to the next comma off the front of `rest`; false after the last one.
static bool next_token(slice_t *rest, bool *done, slice_t *token) {
  if (*done) return false;
  const uint8_t *comma = rest->length > 0 ? memchr(rest->bytes, ',', rest->length) : NULL;
  size_t length = comma ? (size_t)(comma - rest->bytes) : rest->length;
  *token = trim((slice_t){rest->bytes, length});
  *done = comma == NULL;
  if (comma) *rest = (slice_t){comma + 1, rest->length - length - 1};
  return true;
}

static size_t skip_digits(slice_t text, size_t at) {
  while (at < text.length && is_digit(text.bytes[at])) at += 1;
  return at;
}

// [+-] digits [. digits] [e [+-] digits], with a digit before or after the point.
static bool is_number(slice_t text) {
  if (text.length > TOKEN_LIMIT) return false;
  size_t at = text.length > 0 && (text.bytes[0] == '+' || text.bytes[0] == '-') ? 1 : 0;
  size_t end = skip_digits(text, at);
  size_t digits = end - at;
  at = end;
  if (at < text.length && text.bytes[at] == '.') {
    end = skip_digits(text, at + 1);
    digits += end - at - 1;
    at = end;
  }
  if (digits == 0) return false;
  if (at < text.length && (text.bytes[at] == 'e' || text.bytes[at] == 'E')) {
    at += 1;
    if (at < text.length && (text.bytes[at] == '+' || text.bytes[at] == '-')) at += 1;
    end = skip_digits(text, at);
    if (end == at) return false;
    at = end;
  }
  return at == text.length;
}

// By way of a double, so that all three languages round alike.
static float to_float(slice_t number) {
  char text[TOKEN_LIMIT + 1];
  memcpy(text, number.bytes, number.length);
  text[number.length] = 0;
  return (float)strtod(text, NULL);
}

static size_t to_decimal(uint32_t value, char out[COUNT_LIMIT + 1]) {
  char reversed[COUNT_LIMIT];
  size_t length = 0;
  do {
    reversed[length++] = (char)('0' + value % 10);
    value /= 10;
  } while (value > 0);
  for (size_t at = 0; at < length; at += 1) out[at] = reversed[length - 1 - at];
  out[length] = 0;
  return length;
}

static void fail(nuke_plugin_types_plugin_error_t *error, uint8_t code, const char *message) {
  error->code = code;
  processor_string_dup(&error->message, message);
  error->details = (nuke_plugin_types_list_parameter_t){NULL, 0};
}

// `value <index> is no number: '<token>'`, with `?` for each byte that is not printable ASCII.
static void fail_token(nuke_plugin_types_plugin_error_t *error, uint32_t index, slice_t token) {
  char digits[COUNT_LIMIT + 1];
  to_decimal(index, digits);
  char shown[TOKEN_LIMIT + 1];
  size_t length = token.length < TOKEN_LIMIT ? token.length : TOKEN_LIMIT;
  for (size_t at = 0; at < length; at += 1) {
    uint8_t byte = token.bytes[at];
    shown[at] = byte >= 0x20 && byte <= 0x7e ? (char)byte : '?';
  }
  shown[length] = 0;
  char message[COUNT_LIMIT + TOKEN_LIMIT + 32] = "value ";
  strcat(message, digits);
  strcat(message, " is no number: '");
  strcat(message, shown);
  strcat(message, "'");
  fail(error, NUKE_PLUGIN_TYPES_ERROR_CODE_INVALID_INPUT, message);
  nuke_plugin_types_parameter_t *detail = malloc(sizeof *detail);
  if (!detail) abort();
  processor_string_dup(&detail->f0, "index");
  processor_string_dup(&detail->f1, digits);
  error->details = (nuke_plugin_types_list_parameter_t){detail, 1};
}

static void log_count(const char *digits) {
  nuke_plugin_logging_parameter_t field;
  processor_string_set(&field.f0, "values");
  processor_string_set(&field.f1, digits);
  nuke_plugin_logging_list_parameter_t fields = {&field, 1};
  processor_string_t message;
  processor_string_set(&message, "parsed");
  nuke_plugin_logging_log(NUKE_PLUGIN_LOGGING_LEVEL_INFO, &message, &fields);
}

static uint32_t count_tokens(slice_t body) {
  uint32_t count = 1;
  for (size_t at = 0; at < body.length; at += 1) count += body.bytes[at] == ',';
  return count;
}

static void answer_tensor(exports_nuke_plugin_preprocessor_preprocessed_t *ret, float *values, uint32_t count) {
  nuke_plugin_types_tensor_t *tensor = malloc(sizeof *tensor);
  uint32_t *shape = malloc(2 * sizeof *shape);
  if (!tensor || !shape) abort();
  shape[0] = 1;
  shape[1] = count;
  processor_string_dup(&tensor->name, "X");
  tensor->datatype = NUKE_PLUGIN_TYPES_DATATYPE_FP32;
  tensor->shape = (processor_list_u32_t){shape, 2};
  tensor->data = (processor_list_u8_t){(uint8_t *)values, count * sizeof *values};
  ret->tensors.ptr = tensor;
  ret->tensors.len = 1;
  char digits[COUNT_LIMIT + 1];
  size_t length = to_decimal(count, digits);
  processor_string_t context;
  processor_string_dup_n(&context, digits, length);
  ret->context = (processor_list_u8_t){context.ptr, context.len};
  log_count(digits);
}

bool exports_nuke_plugin_preprocessor_preprocess(exports_nuke_plugin_preprocessor_payload_t *input,
                                                 exports_nuke_plugin_preprocessor_preprocessed_t *ret,
                                                 exports_nuke_plugin_preprocessor_plugin_error_t *err) {
  slice_t rest = {input->body.ptr, input->body.len};
  uint32_t count = count_tokens(rest);
  float *values = malloc(count * sizeof *values);
  if (!values) abort();
  slice_t token;
  bool done = false;
  for (uint32_t index = 0; next_token(&rest, &done, &token); index += 1) {
    if (!is_number(token)) {
      fail_token(err, index, token);
      free(values);
      exports_nuke_plugin_preprocessor_payload_free(input);
      return false;
    }
    values[index] = to_float(token);
  }
  exports_nuke_plugin_preprocessor_payload_free(input);
  answer_tensor(ret, values, count);
  return true;
}

static bool is_named(const processor_string_t *name, const char *wanted) {
  return name->len == strlen(wanted) && memcmp(name->ptr, wanted, name->len) == 0;
}

static uint32_t argmax(const processor_list_u8_t *data) {
  uint32_t best = 0;
  float highest, value;
  memcpy(&highest, data->ptr, sizeof highest);
  for (uint32_t index = 1; index < data->len / sizeof value; index += 1) {
    memcpy(&value, data->ptr + index * sizeof value, sizeof value);
    if (value > highest) {
      highest = value;
      best = index;
    }
  }
  return best;
}

static const processor_list_u8_t *probabilities(exports_nuke_plugin_postprocessor_list_tensor_t *outputs) {
  for (size_t at = 0; at < outputs->len; at += 1) {
    nuke_plugin_types_tensor_t *tensor = &outputs->ptr[at];
    bool fits = tensor->datatype == NUKE_PLUGIN_TYPES_DATATYPE_FP32 && tensor->data.len >= sizeof(float);
    if (fits && is_named(&tensor->name, "probabilities")) return &tensor->data;
  }
  return NULL;
}

static bool is_count(const processor_list_u8_t *context) {
  slice_t text = {context->ptr, context->len};
  return text.length > 0 && text.length <= COUNT_LIMIT && skip_digits(text, 0) == text.length;
}

static void answer_digit(exports_nuke_plugin_postprocessor_payload_t *ret, uint32_t digit,
                         const processor_list_u8_t *context) {
  char digits[COUNT_LIMIT + 1];
  to_decimal(digit, digits);
  char body[2 * COUNT_LIMIT + 32] = "{\"digit\":";
  strcat(body, digits);
  strcat(body, ",\"values\":");
  strncat(body, (const char *)context->ptr, context->len);
  strcat(body, "}");
  processor_string_t text;
  processor_string_dup(&text, body);
  processor_string_dup(&ret->content_type, "application/json");
  ret->body = (processor_list_u8_t){text.ptr, text.len};
  ret->parameters = (nuke_plugin_types_list_parameter_t){NULL, 0};
}

bool exports_nuke_plugin_postprocessor_postprocess(exports_nuke_plugin_postprocessor_list_tensor_t *outputs,
                                                   processor_list_u8_t *context,
                                                   exports_nuke_plugin_postprocessor_list_parameter_t *parameters,
                                                   exports_nuke_plugin_postprocessor_payload_t *ret,
                                                   exports_nuke_plugin_postprocessor_plugin_error_t *err) {
  const processor_list_u8_t *data = probabilities(outputs);
  bool good = data != NULL && is_count(context);
  if (good) {
    answer_digit(ret, argmax(data), context);
  } else if (data == NULL) {
    fail(err, NUKE_PLUGIN_TYPES_ERROR_CODE_INTERNAL, "the model has no FP32 output 'probabilities'");
  } else {
    fail(err, NUKE_PLUGIN_TYPES_ERROR_CODE_INTERNAL, "the context is no count of values");
  }
  exports_nuke_plugin_postprocessor_list_tensor_free(outputs);
  processor_list_u8_free(context);
  exports_nuke_plugin_postprocessor_list_parameter_free(parameters);
  return good;
}
