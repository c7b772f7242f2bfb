defmodule PowRedisCache do
  @readme Path.expand("../README.md", __DIR__)
  @external_resource @readme

  @moduledoc """
  #{@readme |> File.read!() |> String.split("<!-- moduledoc -->") |> Enum.at(1, "") |> String.trim()}

  ## Options

  #{PowRedisCache.Options.docs()}
  """

  alias PowRedisCache.{Call, Error, Instance, Native, Options, Reindex, Server}

  if Code.ensure_loaded?(Pow.Store.Backend.Base) do
    @behaviour Pow.Store.Backend.Base
  end

  @typedoc """
  A call's configuration. Pow passes `:namespace` (any term, `"cache"` by default) and `:ttl`
  (milliseconds). `:writes` may be `:sync` or `:async`; `:name` names another instance.
  """
  @type config :: keyword()

  @typedoc "A key: a binary or atom, or a list of parts, each any term but a function."
  @type key :: term()

  @doc """
  A child of a supervisor: `{PowRedisCache, url: "redis://localhost:6379"}`.
  """
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(options) do
    %{name: name, timeout: timeout} = Options.validate!(options)

    %{
      id: name,
      # Behind a function: what supervisors report must not show a password.
      start: {__MODULE__, :start_link, [fn -> options end]},
      # What is queued is written before the instance stops.
      shutdown: timeout + 1_000
    }
  end

  @doc """
  Starts an instance. This does not need Redis: workers connect, and connect again, on their own.

  Raises `ArgumentError` on a wrong option, and `PowRedisCache.Error` with reason `:nif_not_loaded` when
  the native library cannot be loaded.
  """
  @spec start_link(keyword() | (() -> keyword())) :: GenServer.on_start()
  def start_link(options) when is_function(options, 0), do: start_link(options.())
  def start_link(options), do: options |> Options.validate!() |> Server.start_link()

  @doc """
  Writes one record or several, for `:ttl` milliseconds.

      PowRedisCache.put([namespace: "credentials", ttl: :timer.minutes(30)], {"key", "value"})

  Answers `:ok` once Redis has taken the records, or at once with `writes: :async`. Records are not
  written as one transaction; if the call raises, some may be there.

  Raises `PowRedisCache.Error`, `ArgumentError` on a key or value with a function in it, and a
  configuration error without `:ttl`.
  """
  @spec put(config(), {key(), term()} | [{key(), term()}]) :: :ok
  def put(config, record_or_records), do: Call.put(name(config), config, record_or_records)

  @doc """
  Deletes a key; answers `:ok` also if there was none.

  Raises `PowRedisCache.Error`.
  """
  @spec delete(config(), key()) :: :ok
  def delete(config, key), do: Call.delete(name(config), config, key)

  @doc """
  The value of a key, or `:not_found`.

  Raises `PowRedisCache.Error`.
  """
  @spec get(config(), key()) :: term() | :not_found
  def get(config, key), do: Call.get(name(config), config, key)

  @doc """
  The records whose keys match, sorted by key.

  `match` is a pattern as in `:ets` match specifications: `:_` stands for any one part, `:"$1"` for
  one that is equal wherever it stands. A key of one part comes back bare, others as lists.

      PowRedisCache.all([namespace: "credentials"], [MyApp.User, :user, 1, :session, :_])

  Raises `PowRedisCache.Error`.
  """
  @spec all(config(), term()) :: [{key(), term()}]
  def all(config, match), do: Call.all(name(config), config, match)

  @doc """
  Whether Redis answers: `:ok`, or `{:error, %PowRedisCache.Error{}}`.
  """
  @spec ping(atom()) :: :ok | {:error, Error.t()}
  def ping(name \\ __MODULE__) do
    Call.ping(name)
  rescue
    error in Error -> {:error, error}
  end

  @doc """
  The instance in numbers, since its start: a map of

    * `:connected` - whether Redis can be reached;
    * `:server`, `:version` - address and version of the server that was last connected to, or `nil`;
    * `:topology` - `:standalone`, `:sentinel` or `:cluster`;
    * `:workers` - threads that run;
    * `:queue` - calls that wait;
    * `:calls`, `:batches` - calls, and pipelines in which they were sent;
    * `:reconnects`, `:retries` - connections opened again, and calls sent again after a lost one.

  Raises `PowRedisCache.Error` with reason `:not_started`.
  """
  @spec info(atom()) :: map()
  def info(name \\ __MODULE__) do
    instance = Instance.fetch!(name, :info)

    with {:error, :not_started} <- Native.info(instance.native) do
      Instance.not_started!(name, :info)
    end
  end

  @doc """
  Looks once at all keys in Redis: puts into the index what is missing there, and renames keys that
  Pow's guide wrote on Erlang/OTP 25 or earlier to the form that later releases write.

  Safe on a live system, at any time and any number of times: what is interrupted is completed by
  the next run. Run it again also if Redis was restarted meanwhile, or another server took its
  place: keys may have been passed over. `mix pow_redis_cache.reindex` runs it from a shell. In a
  release:

      bin/my_app rpc "PowRedisCache.reindex(progress: PowRedisCache.Progress.new()) |> inspect() |> IO.puts()"

  Options:

    * `:name` - the instance.
    * `:dry_run` - with `true`, nothing is written; the numbers say what would be.
    * `:progress` - a function that is called after each page of keys with the numbers so far, and
      `:fraction`, how much of the database was looked at, from `0.0` to `1.0`. See
      `PowRedisCache.Progress`.

  Answers `%{keys: looked_at, indexed: added_to_the_index, renamed: renamed}`. Keys that are not
  ours are not counted; one that was renamed may be met again, and is then counted twice. Raises `ArgumentError` on a wrong option, and `PowRedisCache.Error`; run it
  again then.
  """
  @spec reindex(keyword()) :: %{
          keys: non_neg_integer(),
          indexed: non_neg_integer(),
          renamed: non_neg_integer()
        }
  def reindex(options \\ []), do: Reindex.run(options)

  @doc """
  Makes the module another backend with an instance of its own, for apps with two Redis servers.

      defmodule MyApp.AdminSessions do
        use PowRedisCache
      end

  Start it with `{MyApp.AdminSessions, url: ...}`, and give Pow `cache_store_backend:
  MyApp.AdminSessions`.
  """
  defmacro __using__(_options) do
    quote do
      if Code.ensure_loaded?(Pow.Store.Backend.Base) do
        @behaviour Pow.Store.Backend.Base
      end

      @doc false
      def child_spec(options), do: options |> named() |> PowRedisCache.child_spec()
      @doc false
      def start_link(options), do: options |> named() |> PowRedisCache.start_link()
      @doc false
      def put(config, records), do: config |> named() |> PowRedisCache.put(records)
      @doc false
      def delete(config, key), do: config |> named() |> PowRedisCache.delete(key)
      @doc false
      def get(config, key), do: config |> named() |> PowRedisCache.get(key)
      @doc false
      def all(config, match), do: config |> named() |> PowRedisCache.all(match)
      @doc false
      def ping, do: PowRedisCache.ping(__MODULE__)
      @doc false
      def info, do: PowRedisCache.info(__MODULE__)
      @doc false
      def reindex(options \\ []), do: options |> named() |> PowRedisCache.reindex()

      defp named(options), do: Keyword.put(options, :name, __MODULE__)
    end
  end

  defp name(config), do: Keyword.get(config, :name, __MODULE__)
end
