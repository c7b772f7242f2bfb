defmodule PowRedisCache.Error do
  @moduledoc """
  Raised when a call fails. It never contains a key, value or password.

  `:operation` is `:put`, `:put_new`, `:delete`, `:get`, `:all`, `:ping`, `:info`, `:reindex`,
  `:reseal` or `:start`.
  If Redis returned an error, `:code` is the first word of its reply, and `:reply` is the reply: one
  line of printable ASCII, shortened before anything that may be an argument of a command. `:address`
  is the address of the server if connecting to it failed. `:plug_status` is 503: Plug and Phoenix
  respond with it. `:reason` is one of:

    * `:not_started` - the instance is not running.
    * `:nif_not_loaded` - the native library could not be loaded.
    * `:busy` - the queue of the instance is full (`:max_queue`, `:max_queue_bytes`).
    * `:timeout` - Redis did not reply within `:timeout`.
    * `:disconnected` - Redis is unreachable.
    * `:connection_lost` - two connections in a row were lost while the call was under way.
    * `:closed` - the instance is stopping.
    * `:out_of_memory` - Redis has reached its `maxmemory` (`OOM`).
    * `:read_only` - the server is a read-only replica (`READONLY`).
    * `:unauthenticated` - Redis rejected the username or password (`NOAUTH`, `WRONGPASS`).
    * `:not_permitted` - the user may not run the command or access the key (`NOPERM`).
    * `:wrong_type` - the key holds a value of another type (`WRONGTYPE`).
    * `:server` - any other error reply.
    * `:tls` - TLS failed; `:code` is the cause. About the server's certificate: `"unknown_ca"`,
      `"no_authorities"`, `"ca_certificate"`, `"expired"`, `"not_yet_valid"`, `"wrong_host"`,
      `"no_names"`, `"invalid_host"`, `"old_certificate"`, `"wrong_purpose"` or
      `"bad_certificate"`. About files: `"certificate_file"`, `"encrypted_key"` or
      `"key_mismatch"`. About the handshake: `"not_tls"`, `"tls_required"`,
      `"no_common_version"`, `"client_certificate_required"`, `"client_certificate_rejected"` or
      `"handshake"`.
    * `:no_primary` - the sentinels report no primary for the group.
    * `:endpoint_unavailable` - the function for `:url`, `:username` or `:password` failed or did
      not return a string.
    * `:invalid_url` - the function for `:url` returned an invalid URL.
    * `:protocol` - unexpected reply: not a Redis server?
    * `:result_too_large` - the records that match a pattern take more than 512 MB.
    * `:worker_panicked` - a worker thread panicked. Please report it.
  """

  alias PowRedisCache.Error.{Connection, Reply, Tls}

  defexception [:reason, :operation, :code, :reply, :address, :detail, plug_status: 503]

  @type t :: %__MODULE__{
          reason: atom(),
          operation: atom(),
          code: String.t() | nil,
          reply: String.t() | nil,
          address: String.t() | nil,
          detail: term(),
          plug_status: 503
        }

  @doc false
  # The details of the native library and the topology are what the message depends on.
  def from_native(operation, {reason, details}, topology \\ :standalone) do
    error = %__MODULE__{
      operation: operation,
      reason: reason,
      reply: details[:reply],
      address: details[:address],
      detail: Map.put(details, :topology, topology)
    }

    case {reason, details} do
      {:server, %{code: code}} -> %{error | reason: Reply.reason(code, error.reply), code: code}
      {:tls, %{code: code}} -> %{error | code: Atom.to_string(code)}
      _ -> error
    end
  end

  @impl true
  def message(%__MODULE__{operation: operation} = error) do
    "#{operation} failed: #{explain(error)}"
  end

  # The doctor splits these after the first sentence: what happened, then what to do.

  defp explain(%{reason: :not_started, detail: name}) do
    "#{name} is not running. Start it before anything that uses it: add " <>
      "`{#{name}, url: \"redis://…\"}` to the children of your application's supervisor, before " <>
      "the endpoint"
  end

  defp explain(%{reason: :nif_not_loaded, detail: detail}) do
    "#{detail} Run `mix deps.compile pow_redis_cache --force` on the machine that runs the app, " <>
      "or on one with the same operating system and processor"
  end

  defp explain(%{reason: :busy}) do
    "the queue is full. Redis cannot keep up with the app: see `:max_queue`, `:max_queue_bytes` and " <>
      "`:pool_size`"
  end

  defp explain(%{reason: reason, detail: detail}) when reason in [:timeout, :disconnected] do
    Connection.explain(reason, detail || %{})
  end

  defp explain(%{reason: :connection_lost}) do
    "two connections in a row were lost while the call was under way. Does the server close the " <>
      "connection when it receives a value of this size? Check its limits and those of any proxy"
  end

  defp explain(%{reason: :closed}), do: "the instance is stopping"

  defp explain(%{reason: :tls, code: code, detail: detail}), do: Tls.explain(code, detail)

  defp explain(%{reason: :no_primary}) do
    "the sentinels report no primary for the group. Check `:sentinels` and `:group`"
  end

  defp explain(%{reason: :endpoint_unavailable}) do
    "the function for `:url`, `:username` or `:password` failed or did not return a string. See " <>
      "the log for its exception"
  end

  defp explain(%{reason: :invalid_url}) do
    "`:url` is not a valid Redis URL. Expected a URL like `redis://localhost:6379/0`"
  end

  defp explain(%{reason: :protocol, detail: detail, address: address}) do
    from = if address, do: " from #{address}", else: ""
    "unexpected reply#{from}: not a Redis server? Check #{Connection.option(detail)}"
  end

  defp explain(%{reason: :result_too_large}) do
    "the matching records take more than 512 MB. Use a pattern that matches fewer records"
  end

  defp explain(%{reason: :worker_panicked}) do
    "a worker thread panicked and recovered. Please report this, with the panic message from stderr"
  end

  # The others are replies of Redis.
  defp explain(%{reason: reason, code: code, reply: reply, detail: detail}) do
    Reply.explain(reason, code, reply, detail || %{})
  end
end
