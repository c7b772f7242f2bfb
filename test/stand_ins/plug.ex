defmodule Plug do
  @moduledoc "Stands in for the behaviour of plugs where Plug is not available."

  @callback init(term()) :: term()
  @callback call(Plug.Conn.t(), term()) :: Plug.Conn.t()
end
