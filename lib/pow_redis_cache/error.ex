defmodule PowRedisCache.Error do
  @moduledoc """
  Raised when a call fails. It holds no key, value or password.

  `:operation` is `:put`, `:delete`, `:get`, `:all`, `:ping`, `:info`, `:reindex` or `:start`.
  `:code` is the first word of Redis's error reply, where there was one. `:reason` is one of:

    * `:not_started` - the instance is not running.
    * `:nif_not_loaded` - the native library could not be loaded.
    * `:busy` - the queue of the instance is full (`:max_queue`).
    * `:timeout` - there was no answer within `:timeout`.
    * `:disconnected` - Redis cannot be reached.
    * `:closed` - the instance is stopping.
    * `:out_of_memory` - Redis has reached its `maxmemory` (`OOM`).
    * `:read_only` - the server is a replica that takes no writes (`READONLY`).
    * `:unauthenticated` - Redis refused user or password (`NOAUTH`, `WRONGPASS`).
    * `:not_permitted` - the user may not run the command or use the key (`NOPERM`).
    * `:wrong_type` - something of another kind lies at the key (`WRONGTYPE`).
    * `:server` - any other error reply.
    * `:tls` - TLS failed; `:code` says at what: `"unknown_ca"`, `"expired"`, `"wrong_host"`,
      `"certificate_file"` or `"handshake"`.
    * `:no_primary` - the sentinels know no master of the group.
    * `:endpoint_unavailable` - the function for `:url`, `:username` or `:password` gave no usable answer.
    * `:cluster_unsupported` - the call is not for clusters.
    * `:invalid_url` - what the function for `:url` answered is not the URL of a Redis server.
    * `:protocol` - what came back is not what Redis answers.
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

  defp explain(%{reason: :not_started, detail: name}) do
    "#{name} is not running. Start it before what uses it: add `{#{name}, url: \"redis://…\"}` to " <>
      "the children of your application's supervisor, in front of the endpoint"
  end

  defp explain(%{reason: :nif_not_loaded, detail: detail}) do
    "#{detail} Run `mix deps.compile pow_redis_cache --force` on the machine, or for the " <>
      "operating system and processor, that the app runs on"
  end

  defp explain(%{reason: :busy}) do
    "the queue is full. Redis is slower than the app asks; see `:max_queue` and `:pool_size`"
  end

  defp explain(%{reason: :timeout}) do
    "no answer from Redis within `:timeout`. Is the server overloaded, or the network slow?"
  end

  defp explain(%{reason: :disconnected}) do
    "Redis cannot be reached. Check that it runs and that `:url` is right"
  end

  defp explain(%{reason: :closed}), do: "the instance is stopping"

  defp explain(%{reason: :out_of_memory}) do
    "Redis is out of memory (OOM). Raise its `maxmemory`"
  end

  defp explain(%{reason: :read_only}) do
    "the server is a replica and takes no writes (READONLY). Let `:url` name the master"
  end

  defp explain(%{reason: :unauthenticated, code: code}) do
    "Redis refused user or password (#{code}). Check those in `:url`"
  end

  defp explain(%{reason: :not_permitted}) do
    {names, [last]} = Enum.split(Commands.names(), -1)

    "the Redis user lacks a permission (NOPERM). It needs the keys and the commands " <>
      "#{Enum.join(names, ", ")} and #{last}"
  end

  defp explain(%{reason: :wrong_type}) do
    "something that is no session lies at the key or index set (WRONGTYPE). Use a database of " <>
      "its own"
  end

  defp explain(%{reason: :server, code: code}), do: "Redis answered with the error #{code}"

  defp explain(%{reason: :tls, code: "unknown_ca"}) do
    "nobody whom we trust has signed Redis's certificate. Name its authority with `:cacertfile`, or " <>
      "take any certificate with `verify: :verify_none`"
  end

  defp explain(%{reason: :tls, code: "expired"}) do
    "Redis's certificate has expired or is not valid yet. Renew it, or take any with " <>
      "`verify: :verify_none`"
  end

  defp explain(%{reason: :tls, code: "wrong_host"}) do
    "Redis's certificate is another host's. Let `:url` name the host as the certificate does, or " <>
      "take any with `verify: :verify_none`"
  end

  defp explain(%{reason: :tls, code: "certificate_file"}) do
    "the file of `:cacertfile`, `:certfile` or `:keyfile` can't be read as PEM"
  end

  defp explain(%{reason: :tls}) do
    "the TLS handshake failed. Does the port of `:url` speak TLS, and does the server ask for a " <>
      "certificate (`:certfile`, `:keyfile`)?"
  end

  defp explain(%{reason: :no_primary}) do
    "the sentinels know no master of the group. Check `:sentinels` and `:group`"
  end

  defp explain(%{reason: :endpoint_unavailable}) do
    "the function for `:url`, `:username` or `:password` failed or answered with no string"
  end

  defp explain(%{reason: :invalid_url}) do
    "`:url` is not the URL of a Redis server. Expected one like `redis://localhost:6379/0`"
  end

  defp explain(%{reason: :cluster_unsupported}) do
    "keys of a cluster can't be renamed across slots. Run it on a server alone"
  end

  defp explain(%{reason: :protocol}) do
    "what came back is not what Redis answers. Does `:url` name a Redis server?"
  end

  defp explain(%{reason: :worker_panicked}) do
    "a worker thread panicked; it goes on. Please report this, with what the VM wrote to stderr"
  end
end
