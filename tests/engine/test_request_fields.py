"""Needs vLLM installed: what clients may send it was looked at, field by field.

A version of vLLM with a field that is not here has to be read first: what does it cost whom, is it
priced, is it bounded (`serving/http/field_limits.py`, record 0035)?
"""

from __future__ import annotations

LOOKED_AT = {
    "add_generation_prompt", "add_special_tokens", "allowed_token_ids", "background",
    "bad_words", "cache_salt", "chat_template", "chat_template_kwargs", "continue_final_message",
    "documents", "ec_transfer_params", "echo", "enable_response_messages", "frequency_penalty",
    "ignore_eos", "include", "include_reasoning", "include_stop_str_in_output", "input",
    "instructions", "kv_transfer_params", "length_penalty", "logit_bias", "logprob_token_ids",
    "logprobs", "max_completion_tokens", "max_output_tokens", "max_tokens", "max_tool_calls",
    "media_io_kwargs", "messages", "metadata", "min_p", "min_tokens", "mm_processor_kwargs",
    "model", "n", "output_config", "parallel_tool_calls", "presence_penalty",
    "previous_input_messages", "previous_response_id", "priority", "prompt", "prompt_cache_key",
    "prompt_embeds", "prompt_logprobs", "reasoning", "reasoning_effort", "repetition_detection",
    "repetition_penalty", "request_id", "response_format", "return_assistant_tokens_mask",
    "return_prompt_text", "return_token_ids", "return_token_offsets",
    "return_tokens_as_token_ids", "routed_experts_prompt_start", "seed", "service_tier",
    "session_id", "skip_special_tokens", "spaces_between_special_tokens", "stop",
    "stop_sequences", "stop_token_ids", "store", "stream", "stream_interval", "stream_options",
    "structured_outputs", "suffix", "system", "temperature", "text", "thinking_token_budget",
    "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "truncate_prompt_tokens",
    "truncation", "truncation_side", "use_beam_search", "user", "vllm_xargs",
}  # fmt: skip


def test_no_field_reaches_vllm_that_nobody_has_looked_at() -> None:
    from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

    models = (
        ChatCompletionRequest, CompletionRequest, ResponsesRequest, AnthropicMessagesRequest,
    )  # fmt: skip
    there = {field for model in models for field in model.model_fields}
    assert there - LOOKED_AT == set()
    assert len(there) > 80
