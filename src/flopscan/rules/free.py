"""Operators known to be free: neither arithmetic nor bytes. The reason stands beside each group."""

from __future__ import annotations

from flopscan.core.cost import ZERO
from flopscan.rules import rule


def _free(reason: str, *ops: str) -> None:
    rule(*ops, source=reason, moves=lambda call: (0, 0), complex=lambda cost: cost)(lambda: ZERO)


_free(
    "a view: only sizes, strides and an offset change",
    "aten::view", "aten::_unsafe_view", "aten::view_as", "aten::reshape", "aten::reshape_as", "aten::_reshape_alias",
    "aten::t", "aten::numpy_T", "aten::mT", "aten::mH", "aten::matrix_H", "aten::adjoint", "aten::transpose",
    "aten::swapaxes", "aten::swapdims", "aten::permute", "aten::movedim", "aten::moveaxis", "aten::expand",
    "aten::expand_as", "aten::broadcast_to", "aten::broadcast_tensors", "aten::squeeze", "aten::unsqueeze",
    "aten::flatten", "aten::unflatten", "aten::ravel", "aten::atleast_1d", "aten::atleast_2d", "aten::atleast_3d",
    "aten::select", "aten::slice", "aten::slice_inverse", "aten::narrow", "aten::split", "aten::split_with_sizes",
    "aten::unsafe_split", "aten::unsafe_split_with_sizes", "aten::unsafe_chunk", "aten::chunk", "aten::tensor_split",
    "aten::hsplit", "aten::vsplit", "aten::dsplit", "aten::unbind", "aten::as_strided", "aten::diagonal",
    "aten::linalg_diagonal", "aten::unfold", "aten::alias", "aten::detach", "aten::data", "aten::positive",
    "aten::view_as_real", "aten::view_as_complex", "aten::conj", "aten::_conj", "aten::_neg_view", "aten::real",
    "aten::imag", "aten::lift", "aten::lift_fresh", "aten::_fw_primal", "aten::_make_dual", "aten::_unpack_dual",
    "aten::_nested_view_from_buffer", "aten::_nested_view_from_jagged", "aten::_nested_get_values",
    "aten::_ncf_view", "aten::_ncf_unsqueeze", "aten::values", "aten::_values", "aten::indices", "aten::_indices",
    "aten::crow_indices", "aten::col_indices", "aten::ccol_indices", "aten::row_indices",
)  # fmt: skip
_free(
    "memory is reserved, nothing is written",
    "aten::empty", "aten::empty_strided", "aten::empty_like", "aten::empty_permuted", "aten::empty_quantized",
    "aten::_empty_affine_quantized", "aten::_empty_per_channel_affine_quantized", "aten::new_empty",
    "aten::new_empty_strided", "aten::_efficientzerotensor", "aten::resize", "aten::resize_as", "aten::_resize_output",
    "aten::set", "aten::set_data",
)  # fmt: skip
_free(
    "a value is handed to Python",
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::allclose",
    "prim::device", "prim::layout", "prim::dtype",
)  # fmt: skip
_free(
    "a check or a question about a tensor, not a computation on it",
    "aten::_assert_async", "aten::_functional_assert_async", "aten::_assert_scalar", "aten::_functional_assert_scalar",
    "aten::_assert_tensor_metadata", "aten::sym_constrain_range", "aten::sym_constrain_range_for_size",
    "aten::_functional_sym_constrain_range", "aten::_functional_sym_constrain_range_for_size",
    "aten::_linalg_check_errors", "aten::_validate_compressed_sparse_indices", "aten::_validate_sparse_coo_tensor_args",
    "aten::is_same_size", "aten::is_set_to", "aten::is_pinned", "aten::is_coalesced", "aten::_has_same_storage_numel",
    "aten::_nnz", "aten::dense_dim", "aten::sparse_dim", "aten::_dimI", "aten::_dimV", "aten::dim", "aten::numel",
    "aten::size", "aten::stride", "aten::storage_offset", "aten::sym_size", "aten::sym_stride", "aten::sym_numel",
    "aten::sym_storage_offset", "aten::sym_is_contiguous", "aten::is_contiguous", "aten::is_strides_like_format",
    "aten::is_non_overlapping_and_dense", "aten::_version", "aten::_debug_has_internal_overlap",
    "aten::_fused_sdp_choice", "aten::_use_cudnn_ctc_loss", "aten::_use_miopen_ctc_loss", "aten::_is_zerotensor",
    "aten::_nested_tensor_size", "aten::_nested_tensor_strides", "aten::_nested_tensor_storage_offsets",
    "aten::_nested_get_offsets", "aten::_nested_get_lengths", "aten::_nested_get_ragged_idx",
    "aten::_nested_get_min_seqlen", "aten::_nested_get_max_seqlen", "aten::_nested_get_jagged_dummy",
)  # fmt: skip
_free(
    "bookkeeping of autograd, streams or the profiler",
    "aten::requires_grad_", "aten::retain_grad", "aten::record_stream", "aten::_coalesced_",
    "aten::_cudnn_init_dropout_state", "aten::_make_dep_token", "aten::_print",
    "profiler::_record_function_enter", "profiler::_record_function_enter_new", "profiler::_record_function_exit",
)  # fmt: skip
