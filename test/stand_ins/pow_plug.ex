defmodule Pow.Plug do
  @moduledoc "Stands in for Pow's functions on connections where Pow is not available."

  alias Plug.Conn
  alias Pow.Config

  def put_config(conn, config), do: Conn.put_private(conn, :pow_config, config)

  def fetch_config(conn) do
    conn.private[:pow_config] || Config.raise_error("Pow configuration not found in connection.")
  end

  def current_user(conn, config \\ nil), do: conn.assigns[assigns_key(conn, config)]

  def assign_current_user(conn, user, config),
    do: Conn.assign(conn, assigns_key(conn, config), user)

  def create(conn, user, config \\ nil) do
    config = config || fetch_config(conn)
    config[:plug].do_create(conn, user, config)
  end

  def delete(conn, config \\ nil) do
    config = config || fetch_config(conn)
    config[:plug].do_delete(conn, config)
  end

  def prepend_with_namespace(config, string) do
    case Config.get(config, :otp_app, nil) do
      nil -> string
      app -> "#{app}_#{string}"
    end
  end

  def sign_token(conn, salt, token, config \\ nil) do
    _config = config || fetch_config(conn)
    Base.url_encode64(signature(conn, salt, token) <> token, padding: false)
  end

  def verify_token(conn, salt, signed, config \\ nil) do
    _config = config || fetch_config(conn)

    with {:ok, <<signature::binary-32, token::binary>>} <-
           Base.url_decode64(signed, padding: false),
         true <- signature == signature(conn, salt, token) do
      {:ok, token}
    else
      _forged -> :error
    end
  end

  defp signature(conn, salt, token),
    do: :crypto.mac(:hmac, :sha256, conn.secret_key_base <> salt, token)

  defp assigns_key(conn, config),
    do: Config.get(config || fetch_config(conn), :current_user_assigns_key, :current_user)
end

defmodule Pow.Plug.Base do
  @moduledoc "Stands in for what Pow's plug of sessions is made of where Pow is not available."

  alias Pow.Config

  @doc "The store of sessions, with its configuration."
  def store(config) do
    {store, store_config} =
      Config.get(config, :credentials_cache_store, {Pow.Store.CredentialsCache, []})

    store_config =
      store_config
      |> Keyword.put_new(:backend, Config.get(config, :cache_store_backend, nil))
      |> Keyword.put_new(:pow_config, config)

    {store, store_config}
  end
end

defmodule Pow.Plug.Session do
  @moduledoc """
  Stands in for Pow's plug of sessions where Pow is not available. As in Pow, sessions are created and deleted
  when the response is sent, and a session that is due is renewed under a new id.
  """

  alias Plug.Conn
  alias Pow.{Config, UUID}
  alias PowRedisCache.PowBeforeSend

  @salt Atom.to_string(__MODULE__)
  @callbacks :stand_in_session_before_send

  def init(config), do: config

  def call(conn, []), do: call(conn, Pow.Plug.fetch_config(conn))

  def call(conn, config) do
    config = Keyword.put(config, :plug, __MODULE__)
    conn = Pow.Plug.put_config(conn, config)

    conn =
      if Pow.Plug.current_user(conn, config) do
        conn
      else
        {conn, user} = fetch(conn, config)
        Pow.Plug.assign_current_user(conn, user, config)
      end

    PowBeforeSend.register(conn, @callbacks)
  end

  def do_create(conn, user, config) do
    {conn, user} = create(conn, user, config)
    Pow.Plug.assign_current_user(conn, user, config)
  end

  def do_delete(conn, config) do
    conn |> delete(config) |> Pow.Plug.assign_current_user(nil, config)
  end

  def fetch(conn, config) do
    {store, store_config} = Pow.Plug.Base.store(config)

    with {id, conn} when is_binary(id) <- client_fetch(conn, config),
         {user, metadata} <- store.get(store_config, id) do
      conn = Conn.put_private(conn, :pow_session_metadata, metadata)
      if due?(metadata, config), do: renew(conn, id, user, config), else: {conn, user}
    else
      {nil, conn} -> {conn, nil}
      _not_found -> {Conn.fetch_session(conn), nil}
    end
  end

  def create(conn, user, config) do
    metadata =
      (conn.private[:pow_session_metadata] || [])
      |> Keyword.put_new(:fingerprint, UUID.generate())
      |> Keyword.put(:inserted_at, System.os_time(:millisecond))

    {store, store_config} = Pow.Plug.Base.store(config)
    id = Pow.Plug.prepend_with_namespace(config, UUID.generate())

    conn =
      conn
      |> delete(config)
      |> before_send(fn conn ->
        store.put(store_config, id, {user, metadata})
        signed = Pow.Plug.sign_token(conn, @salt, id, config)

        conn
        |> Conn.fetch_session()
        |> Conn.put_session(session_key(config), signed)
        |> Conn.configure_session(renew: true)
      end)
      |> Conn.put_private(:pow_session_metadata, metadata)

    {conn, user}
  end

  def delete(conn, config) do
    {store, store_config} = Pow.Plug.Base.store(config)

    before_send(conn, fn conn ->
      case client_fetch(conn, config) do
        {nil, conn} ->
          conn

        {id, conn} ->
          store.delete(store_config, id)
          Conn.delete_session(conn, session_key(config))
      end
    end)
  end

  # Another request of this node may be renewing the session.
  defp renew(conn, id, user, config) do
    lock = {[__MODULE__, id], self()}

    if :global.set_lock(lock, [node() | Node.list()], 0) do
      {conn, user} = create(conn, user, config)
      {before_send(conn, &PowBeforeSend.unlock(&1, lock)), user}
    else
      {conn, user}
    end
  end

  defp due?(metadata, config) do
    case Config.get(config, :session_ttl_renewal, :timer.minutes(15)) do
      nil -> false
      age -> metadata[:inserted_at] + age < System.os_time(:millisecond)
    end
  end

  defp before_send(conn, callback), do: PowBeforeSend.put(conn, @callbacks, callback)

  defp client_fetch(conn, config) do
    conn = Conn.fetch_session(conn)

    with signed when is_binary(signed) <- Conn.get_session(conn, session_key(config)),
         {:ok, id} <- Pow.Plug.verify_token(conn, @salt, signed) do
      {id, conn}
    else
      _none -> {nil, conn}
    end
  end

  defp session_key(config),
    do: Config.get(config, :session_key, Pow.Plug.prepend_with_namespace(config, "auth"))
end
