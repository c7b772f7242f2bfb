defmodule PowPersistentSession.Store.PersistentSessionCache do
  @moduledoc "Stands in for Pow's store of persistent sessions where Pow is not available."

  use Pow.Store.Base, ttl: :timer.hours(24) * 30, namespace: "persistent_session"

  alias Pow.{Operations, Store.Base}

  @impl Base
  def get(config, token) do
    with {user, metadata} <- Base.get(config, backend_config(config), token),
         %_{} = user <- Operations.reload(user, config[:pow_config]),
         do: {user, metadata}
  end
end

defmodule PowPersistentSession.Plug.Base do
  @moduledoc "Stands in for what Pow's plug of persistent sessions is made of where Pow is not available."

  alias Pow.Config
  alias PowPersistentSession.Store.PersistentSessionCache

  @doc "The store of persistent sessions, with its configuration."
  def store(config) do
    {store, store_config} =
      Config.get(config, :persistent_session_store, {PersistentSessionCache, []})

    store_config =
      store_config
      |> Keyword.put_new(:backend, Config.get(config, :cache_store_backend, nil))
      |> Keyword.put_new(:ttl, ttl(config))
      |> Keyword.put_new(:pow_config, config)

    {store, store_config}
  end

  def ttl(config), do: Config.get(config, :persistent_session_ttl, :timer.hours(24) * 30)
end

defmodule PowPersistentSession.Plug.Cookie do
  @moduledoc """
  Stands in for Pow's plug of persistent sessions where Pow is not available. As in Pow, a token is exchanged
  for a session and another token when the response is sent.
  """

  alias Plug.Conn
  alias Pow.{Config, UUID}
  alias PowRedisCache.PowBeforeSend
  alias PowPersistentSession.Plug.Base

  @salt Atom.to_string(__MODULE__)
  @callbacks :stand_in_persistent_session_before_send

  def init(config), do: config

  def call(conn, config) do
    config = conn |> Pow.Plug.fetch_config() |> Keyword.merge(config)
    conn = Conn.put_private(conn, :pow_persistent_session, {__MODULE__, config})
    conn = if Pow.Plug.current_user(conn, config), do: conn, else: authenticate(conn, config)

    PowBeforeSend.register(conn, @callbacks)
  end

  def authenticate(conn, config) do
    {store, store_config} = Base.store(config)

    with {token, conn} when is_binary(token) <- client_fetch(conn, config),
         {user, metadata} <- store.get(store_config, token) do
      exchange(conn, token, user, metadata, config)
    else
      _none -> conn
    end
  end

  def create(conn, user, config) do
    {store, store_config} = Base.store(config)
    token = Pow.Plug.prepend_with_namespace(config, UUID.generate())
    value = {user, metadata(conn)}

    conn
    |> delete(config)
    |> before_send(fn conn ->
      store.put(store_config, token, value)
      signed = Pow.Plug.sign_token(conn, @salt, token, config)
      options = [max_age: div(Base.ttl(config), 1_000), path: "/"]
      conn |> Conn.fetch_cookies() |> Conn.put_resp_cookie(cookie_key(config), signed, options)
    end)
  end

  def delete(conn, config) do
    {store, store_config} = Base.store(config)

    before_send(conn, fn conn ->
      case client_fetch(conn, config) do
        {nil, conn} ->
          conn

        {token, conn} ->
          store.delete(store_config, token)
          Conn.delete_resp_cookie(conn, cookie_key(config), path: "/")
      end
    end)
  end

  # Another request of this node may be exchanging the token.
  defp exchange(conn, token, user, metadata, config) do
    lock = {[__MODULE__, token], self()}

    if :global.set_lock(lock, [node() | Node.list()], 0) do
      conn
      |> put_metadata(metadata[:session_metadata])
      |> create(user, config)
      |> Pow.Plug.create(user, config)
      |> before_send(&PowBeforeSend.unlock(&1, lock))
    else
      Pow.Plug.assign_current_user(conn, user, config)
    end
  end

  # The session that is made for a token has its metadata, and the token that is made keeps it.
  defp put_metadata(conn, nil), do: conn

  defp put_metadata(conn, metadata) do
    session = Keyword.merge(metadata, conn.private[:pow_session_metadata] || [])
    kept = get_in(conn.private, [:pow_persistent_session_metadata, :session_metadata]) || []
    kept = metadata |> Keyword.merge(kept) |> Keyword.delete(:fingerprint)

    conn
    |> Conn.put_private(:pow_session_metadata, session)
    |> Conn.put_private(:pow_persistent_session_metadata, session_metadata: kept)
  end

  defp metadata(conn) do
    metadata = conn.private[:pow_persistent_session_metadata] || []

    case conn.private[:pow_session_metadata][:fingerprint] do
      nil ->
        metadata

      fingerprint ->
        session_metadata = metadata[:session_metadata] || []

        Keyword.put(
          metadata,
          :session_metadata,
          Keyword.put_new(session_metadata, :fingerprint, fingerprint)
        )
    end
  end

  defp before_send(conn, callback), do: PowBeforeSend.put(conn, @callbacks, callback)

  defp client_fetch(conn, config) do
    conn = Conn.fetch_cookies(conn)

    with signed when is_binary(signed) <- conn.cookies[cookie_key(config)],
         {:ok, token} <- Pow.Plug.verify_token(conn, @salt, signed, config) do
      {token, conn}
    else
      _none -> {nil, conn}
    end
  end

  defp cookie_key(config) do
    Config.get(
      config,
      :persistent_session_cookie_key,
      Pow.Plug.prepend_with_namespace(config, "persistent_session")
    )
  end
end
