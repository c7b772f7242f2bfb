defmodule PowRedisCache.Error do
  @moduledoc """
  Raised when a call fails. It never contains a key, value or password.

  `:operation` is `:put`, `:delete`, `:get`, `:all`, `:ping`, `:info`, `:reindex` or `:start`.
  `:code` is the first word of the error reply, if Redis returned one. `:reason` is one of:

    * `:not_started` - the instance is not running.
    * `:nif_not_loaded` - the native library could not be loaded.
    * `:busy` - the queue of the instance is full (`:max_queue`).
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
    * `:tls` - TLS failed; `:code` is the cause: `"unknown_ca"`, `"expired"`, `"wrong_host"`,
      `"certificate_file"` or `"handshake"`.
    * `:no_primary` - the sentinels report no primary for the group.
    * `:endpoint_unavailable` - the function for `:url`, `:username` or `:password` failed or did
      not return a string.
    * `:cluster_unsupported` - the operation is not supported on a cluster.
    * `:invalid_url` - the function for `:url` returned an invalid URL.
    * `:protocol` - unexpected reply: not a Redis server?
    * `:worker_panicked` - a worker thread panicked. Please report it.
  """

  alias PowRedisCache.Commands

  defexception [:reason, :operation, :code, :detail]

  @type t :: %__MODULE__{
          reason: atom(),
          operation: atom(),
          code: String.t() | nil,
          detail: String.t() | nil
        }

  @codes %{
    "OOM" => :out_of_memory,
    "READONLY" => :read_only,
    "NOAUTH" => :unauthenticated,
    "WRONGPASS" => :unauthenticated,
    "NOPERM" => :not_permitted,
    "WRONGTYPE" => :wrong_type
  }

  @doc false
  def from_native(operation, {:server, %{code: code}}) do
    %__MODULE__{reason: Map.get(@codes, code, :server), operation: operation, code: code}
  end

  def from_native(operation, {:tls, %{code: code}}) do
    %__MODULE__{reason: :tls, operation: operation, code: Atom.to_string(code)}
  end

  def from_native(operation, {reason, _details}) do
    %__MODULE__{reason: reason, operation: operation}
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
    "the queue is full. Redis cannot keep up with the app: see `:max_queue` and `:pool_size`"
  end

  defp explain(%{reason: :timeout}) do
    "no reply from Redis within `:timeout`. Is the server overloaded or the network slow?"
  end

  defp explain(%{reason: :disconnected}) do
    "Redis is unreachable. Check that it is running and that `:url` is correct"
  end

  defp explain(%{reason: :connection_lost}) do
    "two connections in a row were lost while the call was under way. Does the server close the " <>
      "connection when it receives a value of this size? Check its limits and those of any proxy"
  end

  defp explain(%{reason: :closed}), do: "the instance is stopping"

  defp explain(%{reason: :out_of_memory}) do
    "Redis is out of memory (OOM). Raise its `maxmemory`"
  end

  defp explain(%{reason: :read_only}) do
    "the server is a read-only replica (READONLY). Point `:url` at the primary"
  end

  defp explain(%{reason: :unauthenticated, code: code}) do
    "Redis rejected the username or password (#{code}). Check the credentials in `:url`, " <>
      "`:username` and `:password`"
  end

  defp explain(%{reason: :not_permitted}) do
    {names, [last]} = Enum.split(Commands.names(), -1)

    "the Redis user lacks a permission (NOPERM). Grant it access to the keys and to the commands " <>
      "#{Enum.join(names, ", ")} and #{last}"
  end

  defp explain(%{reason: :wrong_type}) do
    "the key or index set holds a value of another type (WRONGTYPE). Use a separate database for " <>
      "sessions"
  end

  defp explain(%{reason: :server, code: code}), do: "Redis returned an error (#{code})"

  defp explain(%{reason: :tls, code: "unknown_ca"}) do
    "the certificate is signed by an unknown authority. Set `:cacertfile` to the authority's " <>
      "certificate, or disable verification with `verify: :verify_none`"
  end

  defp explain(%{reason: :tls, code: "expired"}) do
    "the certificate has expired or is not valid yet. Renew it, or disable verification with " <>
      "`verify: :verify_none`"
  end

  defp explain(%{reason: :tls, code: "wrong_host"}) do
    "the certificate does not match the host name. Use the certificate's host name in `:url`, or " <>
      "disable verification with `verify: :verify_none`"
  end

  defp explain(%{reason: :tls, code: "certificate_file"}) do
    "cannot read the file of `:cacertfile`, `:certfile` or `:keyfile`. Check that it exists and " <>
      "is in PEM format"
  end

  defp explain(%{reason: :tls}) do
    "the TLS handshake failed. Does the port in `:url` use TLS, and does the server require a " <>
      "client certificate (`:certfile`, `:keyfile`)?"
  end

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

  defp explain(%{reason: :cluster_unsupported}) do
    "not supported on a cluster: keys cannot be renamed across slots. Run it on a standalone server"
  end

  defp explain(%{reason: :protocol}) do
    "unexpected reply: not a Redis server? Check `:url`"
  end

  defp explain(%{reason: :worker_panicked}) do
    "a worker thread panicked and recovered. Please report this, with the panic message from stderr"
  end
end
